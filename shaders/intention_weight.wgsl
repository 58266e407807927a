// weight[t] = softmax over the tokens of t's sequence of scale * (key_t . query) (eq. 9)
//
// A workgroup a sequence; its invocations take every 64th token. Parameters: kernels::intention_weight::Params.

struct Params {
    sequences: u32,
    dim: u32,
    length: u32,
    scale: f32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> key: array<activation>; // [tokens, dim]
@group(0) @binding(2) var<storage, read> key4: array<vec4<activation>>;
@group(0) @binding(3) var<storage, read> query: array<f32>; // [sequences, dim]
@group(0) @binding(3) var<storage, read> query4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>; // [tokens]

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

    var peak = -3.4028234e38;
    for (var t = begin + lane; t < end; t += 64u) {
        var product = 0.0;
        for (var d = 0u; d < params.dim; d++) {
            product += f32(key[t * params.dim + d]) * query[sequence * params.dim + d];
        }
        let score = product * params.scale;
        weight[t] = score;
        peak = max(peak, score);
    }
    partial[lane] = peak;
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) {
        peak = max(peak, partial[i]);
    }
    workgroupBarrier();

    var total = 0.0;
    for (var t = begin + lane; t < end; t += 64u) {
        let share = exp(weight[t] - peak);
        weight[t] = share;
        total += share;
    }
    partial[lane] = total;
    workgroupBarrier();
    total = 0.0;
    for (var i = 0u; i < 64u; i++) {
        total += partial[i];
    }
    for (var t = begin + lane; t < end; t += 64u) {
        weight[t] /= total;
    }
}

// An invocation a sequence, 4 tokens at a time.
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
    let begin = offsets[sequence];
    let end = offsets[sequence + 1u];
    var peak = -3.4028234e38;
    var total = 0.0; // of the exponentials so far, for that peak
    for (var t = begin; t < end; t += 4u) {
        let rows = min(vec4(t) + vec4(0u, 1u, 2u, 3u), vec4(end - 1u)) * quads;
        var scores = vec4(0.0);
        for (var c = 0u; c < quads; c++) {
            let keys = mat4x4(
                vec4<f32>(key4[rows.x + c]),
                vec4<f32>(key4[rows.y + c]),
                vec4<f32>(key4[rows.z + c]),
                vec4<f32>(key4[rows.w + c])
            );
            scores += query4[sequence * quads + c] * keys;
        }
        scores *= params.scale;
        let before = peak;
        // Tokens past the end are the last one once more.
        peak = max(peak, max(max(scores.x, scores.y), max(scores.z, scores.w)));
        let shares = select(vec4(0.0), exp(scores - peak), vec4(t) + vec4(0u, 1u, 2u, 3u) < vec4(end));
        total = total * exp(before - peak) + shares.x + shares.y + shares.z + shares.w;
        for (var i = 0u; i < min(4u, end - t); i++) {
            weight[t + i] = scores[i];
        }
    }
    for (var t = begin; t < end; t++) {
        weight[t] = exp(weight[t] - peak) / total;
    }
}
