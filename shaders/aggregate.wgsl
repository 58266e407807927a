// total[s, k] = beta_k + sum over the sequence's tokens of cluster[t, k] * weight[t] * z_t (inside eq. 13); beta is the
// inputs' for s < inputs, the labels' from there on
//
// A workgroup a sequence; its invocations take every 64th column. Parameters: kernels::aggregate::Params.

struct Params {
    sequences: u32,
    inputs: u32,
    dim: u32,
    intentions: u32,
    length: u32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> z: array<activation>; // [tokens, dim]
@group(0) @binding(2) var<storage, read> z4: array<vec4<activation>>;
@group(0) @binding(3) var<storage, read> cluster: array<f32>; // [tokens, intentions]
@group(0) @binding(4) var<storage, read> weight: array<f32>; // [tokens]
@group(0) @binding(5) var<storage, read> input_bias: array<f32>; // [intentions, dim]
@group(0) @binding(5) var<storage, read> input_bias4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> label_bias: array<f32>; // [intentions, dim]
@group(0) @binding(6) var<storage, read> label_bias4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> total: array<f32>; // [sequences, intentions, dim]
@group(0) @binding(7) var<storage, read_write> total4: array<vec4<f32>>;

const TOGETHER = 4u; // intentions at a time

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
    for (var k = 0u; k < params.intentions; k += TOGETHER) {
        // An intention past the last is the last one, and not written.
        let intention = min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(params.intentions - 1u));
        for (var d = lane; d < params.dim; d += 64u) {
            var sums = vec4<f32>(0.0);
            for (var t = begin; t < end; t++) {
                let at = t * params.intentions + intention;
                let shares = vec4(cluster[at.x], cluster[at.y], cluster[at.z], cluster[at.w]) * weight[t];
                sums += shares * f32(z[t * params.dim + d]);
            }
            for (var j = 0u; j < TOGETHER; j++) {
                if k + j < params.intentions {
                    let at = (k + j) * params.dim + d;
                    var bias: f32;
                    if sequence < params.inputs {
                        bias = input_bias[at];
                    } else {
                        bias = label_bias[at];
                    }
                    total[sequence * params.intentions * params.dim + at] = bias + sums[j];
                }
            }
        }
    }
}

// An invocation has 4 intentions and 16 columns of a sequence.
@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = params.dim / 4u;
    let slabs = (quads + 3u) / 4u;
    let blocks = (params.intentions + 3u) / 4u;
    let work = (group.x + group.y * groups.x) * 8u + lane;
    let sequence = work / (slabs * blocks);
    if sequence >= params.sequences {
        return;
    }
    let k = work / slabs % blocks * 4u;
    let c = work % slabs * 4u;
    let intention = min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(params.intentions - 1u));
    let column = min(vec4(c) + vec4(0u, 1u, 2u, 3u), vec4(quads - 1u));
    // Of 4 columns: an intention a column of the matrix.
    var sum0: mat4x4<f32>;
    var sum1: mat4x4<f32>;
    var sum2: mat4x4<f32>;
    var sum3: mat4x4<f32>;
    for (var t = offsets[sequence]; t < offsets[sequence + 1u]; t++) {
        let at = t * params.intentions + intention;
        let share = vec4(cluster[at.x], cluster[at.y], cluster[at.z], cluster[at.w]) * weight[t];
        let row = t * quads + column;
        let z0 = vec4<f32>(z4[row.x]);
        let z1 = vec4<f32>(z4[row.y]);
        let z2 = vec4<f32>(z4[row.z]);
        let z3 = vec4<f32>(z4[row.w]);
        sum0 += mat4x4(share.x * z0, share.y * z0, share.z * z0, share.w * z0);
        sum1 += mat4x4(share.x * z1, share.y * z1, share.z * z1, share.w * z1);
        sum2 += mat4x4(share.x * z2, share.y * z2, share.z * z2, share.w * z2);
        sum3 += mat4x4(share.x * z3, share.y * z3, share.z * z3, share.w * z3);
    }
    var sums = array(sum0, sum1, sum2, sum3);
    for (var i = 0u; i < min(4u, quads - c); i++) {
        for (var n = 0u; n < min(4u, params.intentions - k); n++) {
            let at = (k + n) * quads + c + i;
            var bias: vec4<f32>;
            if sequence < params.inputs {
                bias = input_bias4[at];
            } else {
                bias = label_bias4[at];
            }
            total4[sequence * params.intentions * quads + at] = bias + sums[i][n];
        }
    }
}
