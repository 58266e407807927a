// Item rows and their moments from `working`, where they are up to date, back to where they lie: with Adam's update (see
// adam.wgsl) by the compact gradient of the rows that a step used, or, where `update` is 0, as they are.
//
// `main`: one invocation a word. `serial`: one invocation sixteen elements of a row.
// Parameters: kernels::adam_rows::Params.

struct Params {
    first: u32,
    rows: u32,
    dim: u32,
    base: u32,
    plane: u32,
    step: u32,
    update: u32,
    rate: f32,
    correction: f32,
    packed: u32,
    key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // those of the call are first .. first + rows
@group(0) @binding(2) var<storage, read> gradient: array<f32>; // [rows of all calls, dim]
@group(0) @binding(2) var<storage, read> gradient4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> working: array<f32>; // table, first and second moment: [3, plane]
@group(0) @binding(3) var<storage, read> working4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> table: array<u32>; // [items of the chunk, words]
@group(0) @binding(4) var<storage, read_write> table4: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> first_moment: array<u32>; // [items of the chunk, words]
@group(0) @binding(5) var<storage, read_write> first_moment4: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> second_moment: array<u32>; // [items of the chunk, words]
@group(0) @binding(6) var<storage, read_write> second_moment4: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> updated: array<u32>; // last step of each row, [items of the chunk]

// Whether a word of the table and of the moments holds two numbers.
override packed: bool = false;

// Adam's constants and update, the same in all its kernels.
const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

// The word of one number, or of two, which are rounded up with the probability of what 16 bits cannot hold; see
// kernels::storage. `at`: the word's place among those of all items.
fn word(x: vec2<f32>, at: u32) -> u32 {
    if !packed {
        return bitcast<u32>(x.x);
    }
    var noise = at * 0x9e3779b1u + params.key;
    noise = (noise ^ (noise >> 16u)) * 0x7feb352du;
    noise = (noise ^ (noise >> 15u)) * 0x846ca68bu;
    noise ^= noise >> 16u;
    let bits = bitcast<vec2<u32>>(x);
    let rounded = bits + vec2<u32>(noise & 0xffffu, noise >> 16u);
    // What is not a number stays so.
    let up = select(rounded, bits | vec2<u32>(0x00400000u), (bits & vec2<u32>(0x7fffffffu)) > vec2<u32>(0x7f800000u));
    return (up.x >> 16u) | (up.y & 0xffff0000u);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = select(1u, 2u, packed); // numbers of a word
    let words = (params.dim + own - 1u) / own; // of a row
    let at = (group.x + group.y * groups.x) * 256u + lane;
    if at >= params.rows * words {
        return;
    }
    let row = params.first + at / words;
    let first = at % words;
    var h = vec2<f32>(0.0);
    var m = vec2<f32>(0.0);
    var v = vec2<f32>(0.0);
    for (var i = 0u; i < own; i++) {
        let d = first * own + i;
        // A word may hold one number more than the row has.
        if d < params.dim {
            let used = row * params.dim + d;
            h[i] = working[used];
            m[i] = working[params.plane + used];
            v[i] = working[2u * params.plane + used];
            if params.update == 1u {
                let g = gradient[used];
                m[i] = BETA1 * m[i] + (1.0 - BETA1) * g;
                v[i] = BETA2 * v[i] + (1.0 - BETA2) * g * g;
                h[i] -= params.rate * m[i] / (sqrt(v[i]) * params.correction + EPSILON);
            }
        }
    }
    let e = (items[row] - params.base) * words + first;
    let place = 3u * items[row] * words + first;
    table[e] = word(h, place);
    first_moment[e] = word(m, place + words);
    second_moment[e] = word(v, place + 2u * words);
    if first == 0u {
        updated[items[row] - params.base] = params.step;
    }
}

const OWN = 4u; // vectors of an invocation of `serial`

// The words of eight numbers, `at` that of the first.
fn words4(x: array<vec4<f32>, 2>, at: u32) -> vec4<u32> {
    return vec4<u32>(word(x[0].xy, at), word(x[0].zw, at + 1u), word(x[1].xy, at + 2u), word(x[1].zw, at + 3u));
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let vectors = params.dim / 4u;
    let parts = (vectors + OWN - 1u) / OWN; // of a row
    let at = (group.x + group.y * groups.x) * 8u + lane;
    if at >= params.rows * parts {
        return;
    }
    let row = params.first + at / parts;
    let part = at % parts * OWN;
    let item = items[row] - params.base;
    let own = select(1u, 2u, packed); // vectors of numbers of a vector of words
    for (var c = part; c < min(part + OWN, vectors); c += own) {
        var h: array<vec4<f32>, 2>;
        var m: array<vec4<f32>, 2>;
        var v: array<vec4<f32>, 2>;
        for (var i = 0u; i < own; i++) {
            let used = row * vectors + c + i;
            h[i] = working4[used];
            m[i] = working4[params.plane / 4u + used];
            v[i] = working4[params.plane / 2u + used];
            if params.update == 1u {
                let g = gradient4[used];
                m[i] = BETA1 * m[i] + (1.0 - BETA1) * g;
                v[i] = BETA2 * v[i] + (1.0 - BETA2) * g * g;
                h[i] -= params.rate * m[i] / (sqrt(v[i]) * params.correction + EPSILON);
            }
        }
        let e = (item * vectors + c) / own;
        if packed {
            let words = params.dim / 2u;
            let place = 3u * items[row] * words + 2u * c;
            table4[e] = words4(h, place);
            first_moment4[e] = words4(m, place + words);
            second_moment4[e] = words4(v, place + 2u * words);
        } else {
            table4[e] = bitcast<vec4<u32>>(h[0]);
            first_moment4[e] = bitcast<vec4<u32>>(m[0]);
            second_moment4[e] = bitcast<vec4<u32>>(v[0]);
        }
    }
    if part == 0u {
        updated[item] = params.step;
    }
}
