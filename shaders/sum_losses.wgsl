// sums[slot] = sum of seq2item, sum of the selected seq2seq, sum of all seq2seq, number selected
//
// One workgroup: invocation i adds elements i, i + 256, ..., then the first invocation adds the 256 sums in order.
// Parameters: kernels::sum_losses::Params.

struct Params {
    examples: u32,
    pairs: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> seq2item: array<f32>; // [examples]
@group(0) @binding(2) var<storage, read> seq2seq: array<f32>; // [pairs]
@group(0) @binding(3) var<storage, read> selected: array<f32>; // 1 where selected: [pairs]
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // [slots, 4]

var<workgroup> partial: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = vec4<f32>(0.0);
    for (var i = lane; i < params.examples; i += 256u) {
        sum.x += seq2item[i];
    }
    for (var i = lane; i < params.pairs; i += 256u) {
        // Not a product: an unselected loss may be infinite.
        sum.y += select(0.0, seq2seq[i], selected[i] == 1.0);
        sum.z += seq2seq[i];
        sum.w += selected[i];
    }
    partial[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        for (var i = 1u; i < 256u; i++) {
            sum += partial[i];
        }
        let first = params.slot * 4u;
        sums[first] = sum.x;
        sums[first + 1u] = sum.y;
        sums[first + 2u] = sum.z;
        sums[first + 3u] = sum.w;
    }
}
