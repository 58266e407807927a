// With a_tk = dtotal_k . z_t: dcluster[t, k] = a_tk weight[t], dz[t] (+)= sum over k of cluster[t, k] weight[t] dtotal_k,
// and, with dweight[t] = sum over k of a_tk cluster[t, k], through the softmax of the weights (eq. 9)
// dscore[t] = weight[t] * (dweight[t] - sum over the tokens t' of t's sequence of weight[t'] dweight[t'])
//
// A workgroup a sequence; its invocations take every 64th token, then every 64th column.
// Parameters: kernels::aggregate_backward::Params.

struct Params {
    sequences: u32,
    dim: u32,
    intentions: u32,
    length: u32,
    accumulate: u32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> z: array<activation>; // [tokens, dim]
@group(0) @binding(2) var<storage, read> z4: array<vec4<activation>>;
@group(0) @binding(3) var<storage, read> cluster: array<f32>; // [tokens, intentions]
@group(0) @binding(4) var<storage, read> weight: array<f32>; // [tokens]
@group(0) @binding(5) var<storage, read> dtotal: array<f32>; // [sequences, intentions, dim]
@group(0) @binding(5) var<storage, read> dtotal4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dz: array<f32>; // [tokens, dim]
@group(0) @binding(6) var<storage, read_write> dz4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dcluster: array<f32>; // [tokens, intentions]
@group(0) @binding(8) var<storage, read_write> dscore: array<f32>; // [tokens]

const TOGETHER = 4u; // intentions at a time

var<workgroup> partial: array<f32, 64>;

// Where the rows of intentions k .. + 3 begin in dtotal, for a sequence whose rows begin at `first`; the last one again
// past it.
fn rows(first: u32, k: u32) -> vec4<u32> {
    return first + min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(params.intentions - 1u)) * params.dim;
}

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
    var mean = 0.0; // of dweight, by weight
    for (var t = begin + lane; t < end; t += 64u) {
        var toward = 0.0;
        for (var k = 0u; k < params.intentions; k += TOGETHER) {
            let at = rows(first, k);
            var along = vec4<f32>(0.0);
            for (var d = 0u; d < params.dim; d++) {
                along += vec4(dtotal[at.x + d], dtotal[at.y + d], dtotal[at.z + d], dtotal[at.w + d])
                    * f32(z[t * params.dim + d]);
            }
            for (var j = 0u; j < TOGETHER; j++) {
                if k + j < params.intentions {
                    dcluster[t * params.intentions + k + j] = along[j] * weight[t];
                    toward += along[j] * cluster[t * params.intentions + k + j];
                }
            }
        }
        dscore[t] = toward;
        mean += toward * weight[t];
    }
    partial[lane] = mean;
    workgroupBarrier();
    mean = 0.0;
    for (var i = 0u; i < 64u; i++) {
        mean += partial[i];
    }
    for (var t = begin + lane; t < end; t += 64u) {
        dscore[t] = weight[t] * (dscore[t] - mean);
    }
    for (var d = lane; d < params.dim; d += 64u) {
        for (var k = 0u; k < params.intentions; k += TOGETHER) {
            let at = rows(first, k) + d;
            let there = vec4(k) + vec4(0u, 1u, 2u, 3u) < vec4(params.intentions);
            let toward = select(vec4(0.0), vec4(dtotal[at.x], dtotal[at.y], dtotal[at.z], dtotal[at.w]), there);
            for (var t = begin; t < end; t++) {
                var sum = 0.0;
                if k > 0u || params.accumulate == 1u {
                    sum = dz[t * params.dim + d];
                }
                let own = t * params.intentions + min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(params.intentions - 1u));
                let shares = vec4(cluster[own.x], cluster[own.y], cluster[own.z], cluster[own.w]) * weight[t];
                dz[t * params.dim + d] = sum + dot(shares, toward);
            }
        }
    }
}

// An invocation a sequence, 4 tokens and 4 intentions at a time.
@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sequence = (group.x + group.y * groups.x) * 8u + lane;
    if sequence >= params.sequences {
        return;
    }
    let quads = params.dim / 4u;
    let intentions = params.intentions;
    let begin = offsets[sequence];
    let end = offsets[sequence + 1u];
    var mean = 0.0; // of dweight, by weight
    for (var t = begin; t < end; t += 4u) {
        let count = min(4u, end - t);
        let token = min(vec4(t) + vec4(0u, 1u, 2u, 3u), vec4(end - 1u));
        let weights = vec4(weight[token.x], weight[token.y], weight[token.z], weight[token.w]);
        var toward = vec4(0.0); // dweight
        for (var k = 0u; k < intentions; k += 4u) {
            let least = min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(intentions - 1u));
            let first = (sequence * intentions + least) * quads;
            // p_{k|i} of the 4 tokens (columns) and intentions; none for intentions past the last.
            var shares: mat4x4<f32>;
            for (var i = 0u; i < count; i++) {
                for (var n = 0u; n < min(4u, intentions - k); n++) {
                    shares[i][n] = cluster[(t + i) * intentions + k + n];
                }
            }
            let factors = mat4x4(
                shares[0] * weights.x, shares[1] * weights.y, shares[2] * weights.z, shares[3] * weights.w
            );
            var along: mat4x4<f32>; // a_tk
            for (var c = 0u; c < quads; c++) {
                let z = mat4x4(
                    vec4<f32>(z4[token.x * quads + c]),
                    vec4<f32>(z4[token.y * quads + c]),
                    vec4<f32>(z4[token.z * quads + c]),
                    vec4<f32>(z4[token.w * quads + c])
                );
                let gradient = mat4x4(
                    dtotal4[first.x + c], dtotal4[first.y + c], dtotal4[first.z + c], dtotal4[first.w + c]
                );
                along += transpose(gradient) * z;
                var sums = gradient * factors;
                for (var i = 0u; i < count; i++) {
                    var sum = sums[i];
                    let at = (t + i) * quads + c;
                    if k > 0u || params.accumulate == 1u {
                        sum += dz4[at];
                    }
                    dz4[at] = sum;
                }
            }
            for (var i = 0u; i < count; i++) {
                for (var n = 0u; n < min(4u, intentions - k); n++) {
                    dcluster[(t + i) * intentions + k + n] = along[i][n] * weights[i];
                }
                toward[i] += dot(along[i], shares[i]);
            }
        }
        for (var i = 0u; i < count; i++) {
            dscore[t + i] = toward[i];
            mean += toward[i] * weights[i];
        }
    }
    for (var t = begin; t < end; t++) {
        dscore[t] = weight[t] * (dscore[t] - mean);
    }
}
