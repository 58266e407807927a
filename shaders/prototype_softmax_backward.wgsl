// dlogit[t, k] = scale * cluster[t, k] * (dcluster[t, k] - sum over k' of cluster[t, k'] dcluster[t, k'])
// dtoken[t] = sum over k of dlogit[t, k] prototype_k
//
// `main`: one invocation a token. `serial`: one invocation two tokens. Both four intentions at a time.
// Parameters: kernels::prototype_softmax_backward::Params.

struct Params {
    tokens: u32,
    dim: u32,
    intentions: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> prototype: array<f32>; // [intentions, dim]
@group(0) @binding(1) var<storage, read> prototype4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> cluster: array<f32>; // [tokens, intentions]
@group(0) @binding(3) var<storage, read> dcluster: array<f32>; // [tokens, intentions]
@group(0) @binding(4) var<storage, read_write> dlogit: array<f32>; // [tokens, intentions]
@group(0) @binding(5) var<storage, read_write> dtoken: array<f32>; // [tokens, dim]
@group(0) @binding(5) var<storage, read_write> dtoken4: array<vec4<f32>>;

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
    var along = 0.0;
    for (var k = 0u; k < params.intentions; k++) {
        along += cluster[first + k] * dcluster[first + k];
    }
    for (var k = 0u; k < params.intentions; k += TOGETHER) {
        var slopes = vec4<f32>(0.0); // dlogit
        for (var j = 0u; j < TOGETHER; j++) {
            if k + j < params.intentions {
                slopes[j] = params.scale * cluster[first + k + j] * (dcluster[first + k + j] - along);
                dlogit[first + k + j] = slopes[j];
            }
        }
        let at = min(vec4(k) + vec4(0u, 1u, 2u, 3u), vec4(params.intentions - 1u)) * params.dim;
        for (var d = 0u; d < params.dim; d++) {
            var sum = 0.0;
            if k > 0u {
                sum = dtoken[t * params.dim + d];
            }
            let prototypes = vec4(prototype[at.x + d], prototype[at.y + d], prototype[at.z + d], prototype[at.w + d]);
            dtoken[t * params.dim + d] = sum + dot(slopes, prototypes);
        }
    }
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let vectors = params.dim / 4u;
    let first = ((group.x + group.y * groups.x) * 8u + lane) * 2u;
    if first >= params.tokens {
        return;
    }
    // A token past the last is the last one, and not written.
    let second = min(first + 1u, params.tokens - 1u);
    let shares = vec2<u32>(first, second) * params.intentions;
    var along = vec2<f32>(0.0);
    for (var k = 0u; k < params.intentions; k++) {
        along.x += cluster[shares.x + k] * dcluster[shares.x + k];
        along.y += cluster[shares.y + k] * dcluster[shares.y + k];
    }
    for (var k = 0u; k < params.intentions; k += TOGETHER) {
        var one: array<f32, TOGETHER>; // dlogit of both tokens
        var other: array<f32, TOGETHER>;
        for (var j = 0u; j < TOGETHER; j++) {
            one[j] = 0.0;
            other[j] = 0.0;
            if k + j < params.intentions {
                let a = shares.x + k + j;
                one[j] = params.scale * cluster[a] * (dcluster[a] - along.x);
                dlogit[a] = one[j];
                if second > first {
                    let b = shares.y + k + j;
                    other[j] = params.scale * cluster[b] * (dcluster[b] - along.y);
                    dlogit[b] = other[j];
                }
            }
        }
        for (var v = 0u; v < vectors; v++) {
            var a = vec4<f32>(0.0);
            var b = vec4<f32>(0.0);
            if k > 0u {
                a = dtoken4[first * vectors + v];
                b = dtoken4[second * vectors + v];
            }
            for (var j = 0u; j < TOGETHER; j++) {
                let c = prototype4[min(k + j, params.intentions - 1u) * vectors + v];
                a += one[j] * c;
                b += other[j] * c;
            }
            dtoken4[first * vectors + v] = a;
            if second > first {
                dtoken4[second * vectors + v] = b;
            }
        }
    }
}
