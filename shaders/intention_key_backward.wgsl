// dnormed[t] = scale * dscore[t] * query, dlinear[t] = the same where key > normed (the ReLU of eq. 10 let through),
// dquery = sum over the sequence's tokens of scale * dscore[t] * key[t]
//
// A workgroup a sequence; its invocations take every 64th column. Parameters: kernels::intention_key_backward::Params.

struct Params {
    sequences: u32,
    dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> dscore: array<f32>; // [tokens]
@group(0) @binding(3) var<storage, read> key: array<f32>; // [tokens, dim]
@group(0) @binding(4) var<storage, read> normed: array<f32>; // key~, [tokens, dim]
@group(0) @binding(5) var<storage, read> query: array<f32>; // [sequences, dim]
@group(0) @binding(6) var<storage, read_write> dnormed: array<f32>; // [tokens, dim]
@group(0) @binding(7) var<storage, read_write> dlinear: array<f32>; // [tokens, dim]
@group(0) @binding(8) var<storage, read_write> dquery: array<f32>; // [sequences, dim]

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
    for (var d = lane; d < params.dim; d += 64u) {
        let toward = query[sequence * params.dim + d];
        var sum = 0.0;
        for (var t = offsets[sequence]; t < offsets[sequence + 1u]; t++) {
            let element = t * params.dim + d;
            let slope = params.scale * dscore[t];
            let value = slope * toward;
            sum += slope * key[element];
            dnormed[element] = value;
            dlinear[element] = select(0.0, value, key[element] > normed[element]);
        }
        dquery[sequence * params.dim + d] = sum;
    }
}
