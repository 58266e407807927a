// row item_r of the table and of both moments = working[r]; updated[item_r] = step
//
// `main`: one invocation a word. `serial`: one invocation a vector of four words. Parameters: kernels::store_rows::Params.

struct Params {
    first: u32,
    rows: u32,
    dim: u32,
    base: u32,
    plane: u32,
    step: u32,
    packed: u32,
    key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // those of the call are first .. first + rows
@group(0) @binding(2) var<storage, read> working: array<f32>; // table, first and second moment: [3, plane]
@group(0) @binding(2) var<storage, read> working4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> table: array<u32>; // [items of the chunk, words]
@group(0) @binding(3) var<storage, read_write> table4: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> first_moment: array<u32>; // [items of the chunk, words]
@group(0) @binding(4) var<storage, read_write> first_moment4: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> second_moment: array<u32>; // [items of the chunk, words]
@group(0) @binding(5) var<storage, read_write> second_moment4: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> updated: array<u32>; // last step of each row, [items of the chunk]

// Whether a word of the table and of the moments holds two numbers.
override packed: bool = false;

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
    let used = row * params.dim + first * own;
    var h = vec2<f32>(working[used], 0.0);
    var m = vec2<f32>(working[params.plane + used], 0.0);
    var v = vec2<f32>(working[2u * params.plane + used], 0.0);
    // A word may hold one number more than the row has.
    if packed && first * own + 1u < params.dim {
        h.y = working[used + 1u];
        m.y = working[params.plane + used + 1u];
        v.y = working[2u * params.plane + used + 1u];
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

// A vector of words from a part of `working` on: of four numbers, or of eight. `at`: the place of the first.
fn words4(used: u32, at: u32) -> vec4<u32> {
    let one = working4[used];
    if !packed {
        return bitcast<vec4<u32>>(one);
    }
    let other = working4[used + 1u];
    return vec4<u32>(word(one.xy, at), word(one.zw, at + 1u), word(other.xy, at + 2u), word(other.zw, at + 3u));
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = select(1u, 2u, packed); // vectors of numbers of a vector of words
    let vectors = params.dim / 4u / own; // of words, of a row
    let at = (group.x + group.y * groups.x) * 8u + lane;
    if at >= params.rows * vectors {
        return;
    }
    let row = params.first + at / vectors;
    let first = at % vectors;
    let e = (items[row] - params.base) * vectors + first;
    let used = (row * vectors + first) * own;
    let words = 4u * vectors;
    let place = 3u * items[row] * words + 4u * first;
    table4[e] = words4(used, place);
    first_moment4[e] = words4(params.plane / 4u + used, place + words);
    second_moment4[e] = words4(params.plane / 2u + used, place + 2u * words);
    if first == 0u {
        updated[items[row] - params.base] = params.step;
    }
}
