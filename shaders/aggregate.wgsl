// total[s, k] = beta_k + sum over the sequence's tokens of cluster[t, k] * weight[t] * z_t (inside eq. 13); beta is the
// inputs' for s < inputs, the labels' from there on
//
// A workgroup a sequence; its invocations take every 64th column. Parameters: kernels::aggregate::Params.

struct Params {
    sequences: u32,
    inputs: u32,
    dim: u32,
    intentions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> z: array<f32>; // [tokens, dim]
@group(0) @binding(3) var<storage, read> cluster: array<f32>; // [tokens, intentions]
@group(0) @binding(4) var<storage, read> weight: array<f32>; // [tokens]
@group(0) @binding(5) var<storage, read> input_bias: array<f32>; // [intentions, dim]
@group(0) @binding(6) var<storage, read> label_bias: array<f32>; // [intentions, dim]
@group(0) @binding(7) var<storage, read_write> total: array<f32>; // [sequences, intentions, dim]

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
    for (var k = 0u; k < params.intentions; k++) {
        for (var d = lane; d < params.dim; d += 64u) {
            let at = k * params.dim + d;
            var sum = 0.0;
            if sequence < params.inputs {
                sum = input_bias[at];
            } else {
                sum = label_bias[at];
            }
            for (var t = offsets[sequence]; t < offsets[sequence + 1u]; t++) {
                sum += cluster[t * params.intentions + k] * weight[t] * z[t * params.dim + d];
            }
            total[sequence * params.intentions * params.dim + at] = sum;
        }
    }
}
