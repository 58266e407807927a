// out[r] = row item_r of the table, as numbers
//
// `main`: one invocation a word. `serial`: one invocation a vector of four words. Parameters: kernels::gather::Params.

struct Params {
    first: u32,
    rows: u32,
    dim: u32,
    base: u32,
    packed: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // those of the call are first .. first + rows
@group(0) @binding(2) var<storage, read> table: array<u32>; // [items of the chunk, words]
@group(0) @binding(2) var<storage, read> table4: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows of all calls, dim]
@group(0) @binding(3) var<storage, read_write> out4: array<vec4<f32>>;

// Whether a word of the table holds two numbers.
override packed: bool = false;

// The numbers of a word, see kernels::storage: one, or two of 16 bits.
fn numbers(word: u32) -> vec2<f32> {
    if packed {
        return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
    }
    return vec2<f32>(bitcast<f32>(word), 0.0);
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
    let values = numbers(table[(items[row] - params.base) * words + first]);
    for (var i = 0u; i < own; i++) {
        let d = first * own + i;
        // A word may hold one number more than the row has.
        if d < params.dim {
            out[row * params.dim + d] = values[i];
        }
    }
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
    let words = table4[(items[row] - params.base) * vectors + first];
    let to = (row * vectors + first) * own;
    if packed {
        out4[to] = vec4<f32>(numbers(words.x), numbers(words.y));
        out4[to + 1u] = vec4<f32>(numbers(words.z), numbers(words.w));
    } else {
        out4[to] = bitcast<vec4<f32>>(words);
    }
}
