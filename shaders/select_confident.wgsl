// tau = the rank-th smallest loss of eq. 3 (-infinity for rank 0); rows with loss <= tau are kept (eq. 4). Kept rows get
// the shift that makes their shares, and come first in `order`. The step's losses are summed into a slot of a ring.
//
// One workgroup. The losses' bits are made to sort as integers; then four rounds count, from the highest byte down, how
// many of the losses that agree with tau so far have each value of the next byte, and step to the byte tau has there.
// Counts are whole numbers, so the atomics' order does not matter. Then each invocation counts and sums a run of rows,
// the first one adds what they have, in order, and each places the rows of its run.
// Parameters: kernels::select_confident::Params.

struct Params {
    examples: u32,
    rows: u32,
    labels: u32,
    rank: u32,
    targets: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> item_loss: array<f32>; // [examples]
@group(0) @binding(2) var<storage, read> label_loss: array<f32>; // [labels]
@group(0) @binding(3) var<storage, read> normaliser: array<f32>; // m and l of eq. 6, then of eq. 3: [2, rows, 2]
@group(0) @binding(4) var<storage, read_write> tau: array<f32>; // [1]
@group(0) @binding(5) var<storage, read_write> shift: array<f32>; // its second half, [labels, 2]
@group(0) @binding(6) var<storage, read_write> positive: array<u32>; // from `targets` on the row where kept, else 0xffffffff
@group(0) @binding(7) var<storage, read_write> order: array<u32>; // number kept, then rows, kept ones first: [1 + rows]
@group(0) @binding(8) var<storage, read_write> sums: array<f32>; // eq. 6, eq. 3 where kept, eq. 3, number kept: [slots, 4]

const NOTHING = 1e30; // the shift that makes a share 0

var<workgroup> counts: array<atomic<u32>, 256>; // losses by the round's byte
var<workgroup> prefix: u32; // tau's bytes so far
var<workgroup> left: u32; // tau's rank among the losses that agree with them
var<workgroup> partial: array<vec4<f32>, 256>; // sums of each invocation
var<workgroup> kept_before: array<u32, 256>; // kept rows of each invocation, then of those before it

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
        let low = 24u - 8u * round; // the byte's lowest bit
        atomicStore(&counts[lane], 0u);
        workgroupBarrier();
        let above = select(0xffffffffu << ((low + 8u) & 31u), 0u, round == 0u); // the bytes known so far
        let known = prefix;
        for (var row = lane; row < params.labels; row += 256u) {
            let bits = sortable(label_loss[row]);
            if (bits & above) == known {
                atomicAdd(&counts[(bits >> low) & 255u], 1u);
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
            prefix = known | (byte << low);
            left = rest;
        }
        workgroupBarrier();
    }
    let bits = prefix;
    let threshold = bitcast<f32>(select(~bits, bits & 0x7fffffffu, (bits & 0x80000000u) != 0u));
    let any = params.rank > 0u;
    let run = (params.rows + 255u) / 256u;
    let first = min(lane * run, params.rows);
    let end = min(first + run, params.rows);
    var sum = vec4<f32>(0.0);
    var kept = 0u;
    for (var row = first; row < min(end, params.labels); row++) {
        let loss = label_loss[row];
        sum.z += loss;
        if any && loss <= threshold {
            sum.y += loss;
            kept++;
        }
    }
    for (var b = lane; b < params.examples; b += 256u) {
        sum.x += item_loss[b];
    }
    sum.w = f32(kept);
    partial[lane] = sum;
    kept_before[lane] = kept;
    workgroupBarrier();
    if lane == 0u {
        var all = vec4<f32>(0.0);
        var before = 0u;
        for (var i = 0u; i < 256u; i++) {
            all += partial[i];
            let own = kept_before[i];
            kept_before[i] = before;
            before += own;
        }
        left = before;
        order[0] = before;
        // -infinity, as no constant expression may be
        tau[0] = select(bitcast<f32>(0xff800000u | (params.rank & 0u)), threshold, any);
        for (var i = 0u; i < 4u; i++) {
            sums[params.slot * 4u + i] = all[i];
        }
    }
    workgroupBarrier();
    var next = kept_before[lane];
    var next_other = left + first - next;
    for (var row = first; row < end; row++) {
        var is_kept = false;
        if row < params.labels {
            is_kept = any && label_loss[row] <= threshold;
            let at = 2u * (params.rows + row);
            shift[at] = select(0.0, normaliser[at], is_kept);
            shift[at + 1u] = select(NOTHING, normaliser[at + 1u], is_kept);
            positive[params.targets + row] = select(0xffffffffu, row, is_kept);
        }
        if is_kept {
            order[1u + next] = row;
            next++;
        } else {
            order[1u + next_other] = row;
            next_other++;
        }
    }
}
