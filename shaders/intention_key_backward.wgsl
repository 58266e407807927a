// dnormed[t] = scale * dscore[t] * query, dlinear[t] = the same where key > normed (the ReLU of eq. 10 let through),
// dquery = sum over the sequence's tokens of scale * dscore[t] * key[t]
//
// A workgroup a sequence; its invocations take every 64th column. Parameters: kernels::intention_key_backward::Params.

struct Params {
    sequences: u32,
    dim: u32,
    length: u32,
    scale: f32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> dscore: array<f32>; // [tokens]
@group(0) @binding(3) var<storage, read> key: array<activation>; // [tokens, dim]
@group(0) @binding(3) var<storage, read> key4: array<vec4<activation>>;
@group(0) @binding(4) var<storage, read> normed: array<activation>; // key~, [tokens, dim]
@group(0) @binding(4) var<storage, read> normed4: array<vec4<activation>>;
@group(0) @binding(5) var<storage, read> query: array<f32>; // [sequences, dim]
@group(0) @binding(5) var<storage, read> query4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dnormed: array<f32>; // [tokens, dim]
@group(0) @binding(6) var<storage, read_write> dnormed4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dlinear: array<f32>; // [tokens, dim]
@group(0) @binding(7) var<storage, read_write> dlinear4: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> dquery: array<f32>; // [sequences, dim]
@group(0) @binding(8) var<storage, read_write> dquery4: array<vec4<f32>>;

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
            sum += slope * f32(key[element]);
            dnormed[element] = value;
            dlinear[element] = select(0.0, value, f32(key[element]) > f32(normed[element]));
        }
        dquery[sequence * params.dim + d] = sum;
    }
}

// An invocation has 4 columns of a sequence.
@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = params.dim / 4u;
    let work = (group.x + group.y * groups.x) * 8u + lane; // vector of the queries
    if work >= params.sequences * quads {
        return;
    }
    let sequence = work / quads;
    let toward = query4[work];
    let end = offsets[sequence + 1u];
    var sum = vec4(0.0);
    for (var t = offsets[sequence]; t < end; t++) {
        let at = t * quads + work % quads;
        let slope = params.scale * dscore[t];
        let value = slope * toward;
        let key = vec4<f32>(key4[at]);
        sum += slope * key;
        dnormed4[at] = value;
        dlinear4[at] = select(vec4(0.0), value, key > vec4<f32>(normed4[at]));
    }
    dquery4[work] = sum;
}
