// With a_tk = dtotal_k . z_t: dcluster[t, k] = a_tk weight[t], dweight[t] = sum over k of a_tk cluster[t, k],
// dz[t] (+)= sum over k of cluster[t, k] weight[t] dtotal_k
//
// A workgroup a sequence; its invocations take every 64th token, then every 64th column.
// Parameters: kernels::aggregate_backward::Params.

struct Params {
    sequences: u32,
    dim: u32,
    intentions: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> z: array<f32>; // [tokens, dim]
@group(0) @binding(3) var<storage, read> cluster: array<f32>; // [tokens, intentions]
@group(0) @binding(4) var<storage, read> weight: array<f32>; // [tokens]
@group(0) @binding(5) var<storage, read> dtotal: array<f32>; // [sequences, intentions, dim]
@group(0) @binding(6) var<storage, read_write> dz: array<f32>; // [tokens, dim]
@group(0) @binding(7) var<storage, read_write> dcluster: array<f32>; // [tokens, intentions]
@group(0) @binding(8) var<storage, read_write> dweight: array<f32>; // [tokens]

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
    let first = sequence * params.intentions * params.dim; // of this sequence in dtotal
    for (var t = begin + lane; t < end; t += 64u) {
        var toward = 0.0;
        for (var k = 0u; k < params.intentions; k++) {
            var along = 0.0;
            for (var d = 0u; d < params.dim; d++) {
                along += dtotal[first + k * params.dim + d] * z[t * params.dim + d];
            }
            dcluster[t * params.intentions + k] = along * weight[t];
            toward += along * cluster[t * params.intentions + k];
        }
        dweight[t] = toward;
    }
    for (var d = lane; d < params.dim; d += 64u) {
        for (var t = begin; t < end; t++) {
            var sum = 0.0;
            if params.accumulate == 1u {
                sum = dz[t * params.dim + d];
            }
            for (var k = 0u; k < params.intentions; k++) {
                sum += cluster[t * params.intentions + k] * weight[t] * dtotal[first + k * params.dim + d];
            }
            dz[t * params.dim + d] = sum;
        }
    }
}
