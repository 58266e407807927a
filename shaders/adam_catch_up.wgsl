// working[r] = row item_r of the table and of both moments, with the updates that dense Adam (see adam.wgsl) gives rows
// without a gradient: g = 0 in steps updated + 1 .. step. Some of them are made one by one, all others at once;
// src/kernels/adam_catch_up.rs says which and how.
//
// `main`: one invocation a word. `serial`: one invocation sixteen elements of a row.
// Parameters: kernels::adam_catch_up::Params.

struct Params {
    first: u32,
    rows: u32,
    dim: u32,
    base: u32,
    plane: u32,
    step: u32,
    steps: u32,
    packed: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> items: array<u32>; // those of the call are first .. first + rows
@group(0) @binding(2) var<storage, read> rates: array<f32>; // of each step, see the twin: [steps, 6]
@group(0) @binding(3) var<storage, read> updated: array<u32>; // last step of each row, [items of the chunk]
@group(0) @binding(4) var<storage, read> table: array<u32>; // [items of the chunk, words]
@group(0) @binding(4) var<storage, read> table4: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> first_moment: array<u32>; // [items of the chunk, words]
@group(0) @binding(5) var<storage, read> first_moment4: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> second_moment: array<u32>; // [items of the chunk, words]
@group(0) @binding(6) var<storage, read> second_moment4: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> working: array<f32>; // table, first and second moment: [3, plane]
@group(0) @binding(7) var<storage, read_write> working4: array<vec4<f32>>;

// Whether a word of the table and of the moments holds two numbers.
override packed: bool = false;

// Adam's constants and update, the same in all its kernels.
const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

// As in the twin.
const FEW = 4u;
const EARLY = 1024u;
const MOST = 64u;

// How many of the updates between two steps are made one by one.
fn one_by_one_of(start: u32, end: u32) -> u32 {
    let all = end - start;
    if all <= FEW {
        return all;
    }
    return select(0u, min(all, MOST >> (start / (EARLY / 4u))), start < EARLY);
}

const LOG2_BETA1 = -0.15200309344504997;
const LOG2_BETA2 = -0.0014434168696687186;

// beta1^n and beta2^n
fn decays(n: u32) -> vec2<f32> {
    return exp2(f32(n) * vec2<f32>(LOG2_BETA1, LOG2_BETA2));
}

// Of the rates, what gives the sum of all updates after a step.
fn nodes(step: u32) -> vec4<f32> {
    let at = 6u * (min(step, params.steps) - 1u);
    return vec4<f32>(rates[at + 2u], rates[at + 3u], rates[at + 4u], rates[at + 5u]);
}

fn later(nodes: vec4<f32>, m: f32, root: f32) -> f32 {
    let one = root * nodes.y + EPSILON;
    let other = root * nodes.w + EPSILON;
    return m * (nodes.x * other + nodes.z * one) / (one * other);
}

// The numbers of a word, see kernels::storage: one, or two of 16 bits.
fn numbers(word: u32) -> vec2<f32> {
    if packed {
        return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
    }
    return vec2<f32>(bitcast<f32>(word), 0.0);
}

// An element of the table and of both moments, up to date, where it was so in step `done`.
fn caught_up(old: vec3<f32>, done: u32) -> vec3<f32> {
    var h = old.x;
    var m = old.y;
    var v = old.z;
    // Without a second moment it never had a gradient.
    if v > 0.0 {
        let end = done + one_by_one_of(done, params.step);
        for (var step = done + 1u; step <= end; step++) {
            let at = 6u * (min(step, params.steps) - 1u);
            m = BETA1 * m;
            v = BETA2 * v;
            h -= rates[at] * m / (sqrt(v) * rates[at + 1u] + EPSILON);
        }
        if end < params.step {
            let left = vec2<f32>(m, v) * decays(params.step - end);
            h -= later(nodes(end), m, sqrt(v)) - later(nodes(params.step), left.x, sqrt(left.y));
            m = left.x;
            v = left.y;
        }
    }
    return vec3<f32>(h, m, v);
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
    let word = at % words;
    let item = items[row] - params.base;
    let done = updated[item];
    let e = item * words + word;
    let h = numbers(table[e]);
    let m = numbers(first_moment[e]);
    let v = numbers(second_moment[e]);
    for (var i = 0u; i < own; i++) {
        let d = word * own + i;
        // A word may hold one number more than the row has.
        if d < params.dim {
            let now = caught_up(vec3<f32>(h[i], m[i], v[i]), done);
            let to = row * params.dim + d;
            working[to] = now.x;
            working[params.plane + to] = now.y;
            working[2u * params.plane + to] = now.z;
        }
    }
}

fn later4(nodes: vec4<f32>, m: vec4<f32>, root: vec4<f32>) -> vec4<f32> {
    let one = root * nodes.y + EPSILON;
    let other = root * nodes.w + EPSILON;
    return m * (nodes.x * other + nodes.z * one) / (one * other);
}

fn numbers4(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(numbers(words.x), numbers(words.y));
}

const OWN = 4u; // vectors of an invocation of `serial`

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
    var h: array<vec4<f32>, OWN>;
    var m: array<vec4<f32>, OWN>;
    var v: array<vec4<f32>, OWN>;
    var any = vec4<f32>(0.0);
    // A vector past the row's end is the last one, and not written.
    if packed {
        for (var c = 0u; c < OWN; c += 2u) {
            let e = (item * vectors + min(part + c, vectors - 2u)) / 2u;
            let words = array<vec4<u32>, 3>(table4[e], first_moment4[e], second_moment4[e]);
            h[c] = numbers4(words[0].xy);
            m[c] = numbers4(words[1].xy);
            v[c] = numbers4(words[2].xy);
            h[c + 1u] = numbers4(words[0].zw);
            m[c + 1u] = numbers4(words[1].zw);
            v[c + 1u] = numbers4(words[2].zw);
        }
    } else {
        for (var c = 0u; c < OWN; c++) {
            let e = item * vectors + min(part + c, vectors - 1u);
            h[c] = bitcast<vec4<f32>>(table4[e]);
            m[c] = bitcast<vec4<f32>>(first_moment4[e]);
            v[c] = bitcast<vec4<f32>>(second_moment4[e]);
        }
    }
    for (var c = 0u; c < OWN; c++) {
        any += v[c];
    }
    let done = updated[item];
    let moves = dot(any, vec4<f32>(1.0)) > 0.0;
    let end = select(done, done + one_by_one_of(done, params.step), moves);
    for (var step = done + 1u; step <= end; step++) {
        let rate_at = 6u * (min(step, params.steps) - 1u);
        let rate = rates[rate_at];
        let correction = rates[rate_at + 1u];
        for (var c = 0u; c < OWN; c++) {
            m[c] = BETA1 * m[c];
            v[c] = BETA2 * v[c];
            h[c] -= rate * m[c] / (sqrt(v[c]) * correction + EPSILON);
        }
    }
    if moves && end < params.step {
        let before = nodes(end);
        let after = nodes(params.step);
        let decay = decays(params.step - end);
        for (var c = 0u; c < OWN; c++) {
            let later_m = m[c] * decay.x;
            let later_v = v[c] * decay.y;
            h[c] -= later4(before, m[c], sqrt(v[c])) - later4(after, later_m, sqrt(later_v));
            m[c] = later_m;
            v[c] = later_v;
        }
    }
    for (var c = 0u; c < OWN; c++) {
        if part + c < vectors {
            let to = row * vectors + part + c;
            working4[to] = h[c];
            working4[params.plane / 4u + to] = m[c];
            working4[params.plane / 2u + to] = v[c];
        }
    }
}
