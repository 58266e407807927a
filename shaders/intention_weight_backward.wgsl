// dscore[t] = weight[t] * (dweight[t] - sum over the tokens t' of t's sequence of weight[t'] dweight[t'])
//
// A workgroup a sequence; its invocations take every 64th token. Parameters: kernels::intention_weight_backward::Params.

struct Params {
    sequences: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [tokens]
@group(0) @binding(3) var<storage, read> dweight: array<f32>; // [tokens]
@group(0) @binding(4) var<storage, read_write> dscore: array<f32>; // [tokens]

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sequence = group.x + group.y * groups.x;
    if sequence >= params.sequences {
        return;
    }
    let begin = offsets[sequence];
    let end = offsets[sequence + 1u];
    var along = 0.0;
    for (var t = begin + lane; t < end; t += 64u) {
        along += weight[t] * dweight[t];
    }
    partial[lane] = along;
    workgroupBarrier();
    along = 0.0;
    for (var i = 0u; i < 64u; i++) {
        along += partial[i];
    }
    for (var t = begin + lane; t < end; t += 64u) {
        dscore[t] = weight[t] * (dweight[t] - along);
    }
}
