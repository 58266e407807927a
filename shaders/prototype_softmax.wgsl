// cluster[t, k] = softmax over k of scale * (token_t . prototype_k) (eq. 8; both are normalised before)
//
// `main`: one invocation a token. `serial`: one invocation two tokens. Both four intentions at a time.
// Parameters: kernels::prototype_softmax::Params.

struct Params {
    tokens: u32,
    dim: u32,
    intentions: u32,
    scale: f32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> token: array<activation>; // [tokens, dim]
@group(0) @binding(1) var<storage, read> token4: array<vec4<activation>>;
@group(0) @binding(2) var<storage, read> prototype: array<f32>; // [intentions, dim]
@group(0) @binding(2) var<storage, read> prototype4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> cluster: array<f32>; // [tokens, intentions]

const TOGETHER = 4u; // intentions at a time

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = (group.x + group.y * groups.x) * 64u + lane;
    if t >= params.tokens {
        return;
    }
    let first = t * params.intentions;
    var peak = -3.4028234e38;
    for (var k = 0u; k < params.intentions; k += TOGETHER) {
        // An intention past the last is the last one, and not written.
        let at = min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(params.intentions - 1u)) * params.dim;
        var products = vec4<f32>(0.0);
        for (var d = 0u; d < params.dim; d++) {
            products += f32(token[t * params.dim + d])
                * vec4(prototype[at.x + d], prototype[at.y + d], prototype[at.z + d], prototype[at.w + d]);
        }
        for (var j = 0u; j < TOGETHER; j++) {
            let logit = products[j] * params.scale;
            peak = max(peak, logit);
            if k + j < params.intentions {
                cluster[first + k + j] = logit;
            }
        }
    }
    var total = 0.0;
    for (var k = 0u; k < params.intentions; k++) {
        let share = exp(cluster[first + k] - peak);
        cluster[first + k] = share;
        total += share;
    }
    for (var k = 0u; k < params.intentions; k++) {
        cluster[first + k] /= total;
    }
}

const OWN = 2u; // tokens of an invocation of `serial`

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let vectors = params.dim / 4u;
    let first = ((group.x + group.y * groups.x) * 8u + lane) * OWN;
    if first >= params.tokens {
        return;
    }
    // A token or intention past the last is the last one, and not written.
    let second = min(first + 1u, params.tokens - 1u);
    var peak = vec2<f32>(-3.4028234e38);
    for (var k = 0u; k < params.intentions; k += TOGETHER) {
        var one: array<vec4<f32>, TOGETHER>;
        var other: array<vec4<f32>, TOGETHER>;
        for (var j = 0u; j < TOGETHER; j++) {
            one[j] = vec4<f32>(0.0);
            other[j] = vec4<f32>(0.0);
        }
        for (var v = 0u; v < vectors; v++) {
            let a = vec4<f32>(token4[first * vectors + v]);
            let b = vec4<f32>(token4[second * vectors + v]);
            for (var j = 0u; j < TOGETHER; j++) {
                let c = prototype4[min(k + j, params.intentions - 1u) * vectors + v];
                one[j] += a * c;
                other[j] += b * c;
            }
        }
        for (var j = 0u; j < TOGETHER; j++) {
            let logits = params.scale * vec2<f32>(dot(one[j], vec4<f32>(1.0)), dot(other[j], vec4<f32>(1.0)));
            peak = max(peak, logits);
            if k + j < params.intentions {
                cluster[first * params.intentions + k + j] = logits.x;
                if second > first {
                    cluster[second * params.intentions + k + j] = logits.y;
                }
            }
        }
    }
    for (var t = first; t <= second; t++) {
        let highest = select(peak.y, peak.x, t == first);
        var total = 0.0;
        for (var k = 0u; k < params.intentions; k++) {
            let share = exp(cluster[t * params.intentions + k] - highest);
            cluster[t * params.intentions + k] = share;
            total += share;
        }
        for (var k = 0u; k < params.intentions; k++) {
            cluster[t * params.intentions + k] /= total;
        }
    }
}
