// tau = the rank-th smallest loss (-infinity for rank 0); rows with loss <= tau are kept (eq. 4)
//
// One workgroup. The losses' bits are made to sort as integers; then four rounds count, from the highest byte down, how
// many of the losses that agree with tau so far have each value of the next byte, and step to the byte tau has there.
// Counts are whole numbers, so the atomics' order does not matter. Parameters: kernels::select_confident::Params.

struct Params {
    rows: u32,
    rank: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> loss: array<f32>; // [rows]
@group(0) @binding(2) var<storage, read_write> tau: array<f32>; // [1]
@group(0) @binding(3) var<storage, read_write> weight: array<f32>; // 1 where kept: [rows]
@group(0) @binding(4) var<storage, read_write> positive: array<u32>; // the row where kept, else 0xffffffff: [rows]

var<workgroup> counts: array<atomic<u32>, 256>; // losses by the round's byte
var<workgroup> prefix: u32; // tau's bytes so far
var<workgroup> left: u32; // tau's rank among the losses that agree with them

// Bits that sort as the numbers do; what is not a number, of either sign, comes last.
fn sortable(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return 0xffffffffu;
    }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u {
        prefix = 0u;
        left = params.rank;
    }
    for (var round = 0u; round < 4u; round++) {
        let shift = 24u - 8u * round;
        atomicStore(&counts[lane], 0u);
        workgroupBarrier();
        let above = select(0xffffffffu << ((shift + 8u) & 31u), 0u, round == 0u); // the bytes known so far
        let known = prefix;
        for (var row = lane; row < params.rows; row += 256u) {
            let bits = sortable(loss[row]);
            if (bits & above) == known {
                atomicAdd(&counts[(bits >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var rest = left;
            var byte = 0u;
            while byte < 255u && rest > atomicLoad(&counts[byte]) {
                rest -= atomicLoad(&counts[byte]);
                byte++;
            }
            prefix = known | (byte << shift);
            left = rest;
        }
        workgroupBarrier();
    }
    let bits = prefix;
    let threshold = bitcast<f32>(select(~bits, bits & 0x7fffffffu, (bits & 0x80000000u) != 0u));
    let any = params.rank > 0u;
    if lane == 0u {
        // -infinity, as no constant expression may be
        tau[0] = select(bitcast<f32>(0xff800000u | (params.rank & 0u)), threshold, any);
    }
    for (var row = lane; row < params.rows; row += 256u) {
        let kept = any && loss[row] <= threshold;
        weight[row] = select(0.0, 1.0, kept);
        positive[row] = select(0xffffffffu, row, kept);
    }
}
