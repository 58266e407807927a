// y = x + dropout(o), o_i = sum over j <= i of mask_ij softmax_j(q_i . k_j / sqrt(D)) v_j within a sequence;
// keeps o (`mixed`) and ln(sum(exp(scores))) of each query.
//
// Group (x, y, b) has block b of 16 queries of its sequence, which meets blocks of 16 keys: invocation (r, c) of 16 x 16
// scores query r with key c from slabs of 64 dimensions in group memory, then the running maximum, sum and output are
// updated (an online softmax); outputs are held by column: invocation n has columns n % 64, + 64, + 128, + 192 of rows
// 4 (n / 64) .. + 3.
// Parameters: kernels::attention::Params.

struct Params {
    sequences: u32,
    tokens: u32,
    dim: u32,
    scale: f32,
    length: u32,
    share_below: u32,
    share_scale: f32,
    share_key: u32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
    first_sequence: u32,
    base: u32,
}

alias activation = f32; // kernels::activations makes it f16, and what is stored so
fn stored(x: f32) -> activation { return x; }
fn stored4(x: vec4<f32>) -> vec4<activation> { return x; }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // of all sequences, and the end
@group(0) @binding(2) var<storage, read> owners: array<u32>; // sequence of each of all tokens
@group(0) @binding(3) var<storage, read> qkv: array<activation>; // from token `base` on, like the others: [tokens, 3, dim]
@group(0) @binding(3) var<storage, read> qkv4: array<vec4<activation>>;
@group(0) @binding(4) var<storage, read> x: array<activation>; // [tokens, dim]
@group(0) @binding(4) var<storage, read> x4: array<vec4<activation>>;
@group(0) @binding(5) var<storage, read_write> y: array<activation>; // [tokens, dim]
@group(0) @binding(5) var<storage, read_write> y4: array<vec4<activation>>;
@group(0) @binding(6) var<storage, read_write> mixed: array<activation>; // [tokens, dim]
@group(0) @binding(6) var<storage, read_write> mixed4: array<vec4<activation>>;
@group(0) @binding(7) var<storage, read_write> log_sum: array<f32>; // of all tokens
@group(0) @binding(8) var<uniform> qkv_uniform: array<vec4<f32>, 4096>; // the first of `qkv`

override qkv_from_uniform: bool = false; // whether qkv is all there

const BLOCK = 16u;
const SLAB = 64u;
const APART = 65u; // rows are one more apart than a slab, to spread over the banks
const LOWEST = -3.4028234e38;

// All [row of the block, slab dimension].
var<workgroup> queries: array<f32, 1040>;
var<workgroup> keys: array<f32, 1040>;
var<workgroup> values: array<f32, 1040>;
var<workgroup> scores: array<f32, 256>; // [query, key]; at the end, sums of exp(score - maximum) of every 16th key
var<workgroup> shares: array<f32, 256>; // [query, key], not yet divided by their sum
var<workgroup> shrinks: array<f32, 16>; // what the sums of each query so far are multiplied with
var<workgroup> totals: array<f32, 16>; // of each query's shares, at the end

// The same in every shader that drops out; src/kernels/dropout.rs says what it is.
fn drop_factor(below: u32, scale: f32, key: u32, element: u32) -> f32 {
    var x = element * 0x9e3779b1u + key;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    x = x ^ (x >> 16u);
    return select(scale, 0.0, x < below);
}

// Element of a slab of 16 tokens, from `first` of a sequence on, that is `row` tokens and `column` elements on; 0 where there
// is none. `part` is 0 for queries, 1 for keys, 2 for values.
fn qkv_element(begin: u32, tokens: u32, first: u32, row: u32, column: u32, part: u32) -> f32 {
    let token = begin + min(first + row, tokens - 1u);
    let value = f32(qkv[(token * 3u + part) * params.dim + min(column, params.dim - 1u)]);
    return select(0.0, value, first + row < tokens && column < params.dim);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let number = group.x + group.y * groups.x;
    if number >= params.sequences {
        return;
    }
    // Tokens are counted from `base` on.
    let sequence = params.first_sequence + number;
    let begin = offsets[sequence] - params.base;
    let tokens = offsets[sequence + 1u] - offsets[sequence];
    let first = group.z * BLOCK;
    if first >= tokens {
        return;
    }
    let dim = params.dim;
    let r = invocation / BLOCK;
    let c = invocation % BLOCK;
    let four = invocation / SLAB * 4u; // rows that it brings to group memory, and has of the output
    let d = invocation % SLAB; // their column in a slab
    // Element (row four + i, column 64 g + d) is out[4 g + i].
    var out: array<f32, 16>;
    for (var e = 0u; e < 16u; e++) {
        out[e] = 0.0;
    }
    var peak = LOWEST; // running maximum of query r
    var total = 0.0; // running sum of exp(score - maximum) of its keys c, c + 16, ..
    for (var start = 0u; start <= first; start += BLOCK) {
        var score = 0.0;
        for (var slab = 0u; slab < dim; slab += SLAB) {
            workgroupBarrier();
            for (var i = 0u; i < 4u; i++) {
                let at = (four + i) * APART + d;
                // Queries of one slab stay.
                if start == 0u || dim > SLAB {
                    queries[at] = qkv_element(begin, tokens, first, four + i, slab + d, 0u);
                }
                keys[at] = qkv_element(begin, tokens, start, four + i, slab + d, 1u);
                if slab == 0u {
                    values[at] = qkv_element(begin, tokens, start, four + i, d, 2u);
                }
            }
            workgroupBarrier();
            for (var eighth = 0u; eighth < min(SLAB, dim - slab); eighth += 8u) {
                for (var i = 0u; i < 8u; i++) {
                    score += queries[r * APART + eighth + i] * keys[c * APART + eighth + i];
                }
            }
        }
        let allowed = start + c <= first + r && first + r < tokens;
        score = select(LOWEST, score * params.scale, allowed);
        scores[invocation] = score;
        workgroupBarrier();
        let before = peak;
        for (var j = 0u; j < BLOCK; j++) {
            peak = max(peak, scores[r * BLOCK + j]);
        }
        let shrink = exp(before - peak);
        // Keys after the query have no share, whatever the maximum is.
        let share = select(0.0, exp(score - peak), allowed);
        total = total * shrink + share;
        let pair = (params.base + begin + first + r) * params.length + start + c;
        shares[invocation] = share * drop_factor(params.share_below, params.share_scale, params.share_key, pair);
        if c == 0u {
            shrinks[r] = shrink;
        }
        workgroupBarrier();
        for (var g = 0u; g < 4u; g++) {
            if SLAB * g < dim {
                if g > 0u {
                    workgroupBarrier();
                    for (var i = 0u; i < 4u; i++) {
                        values[(four + i) * APART + d] = qkv_element(begin, tokens, start, four + i, SLAB * g + d, 2u);
                    }
                    workgroupBarrier();
                }
                for (var i = 0u; i < 4u; i++) {
                    out[4u * g + i] *= shrinks[four + i];
                }
                for (var j = 0u; j < min(BLOCK, tokens - start); j++) {
                    let value = values[j * APART + d];
                    for (var i = 0u; i < 4u; i++) {
                        out[4u * g + i] += shares[(four + i) * BLOCK + j] * value;
                    }
                }
            }
        }
    }
    scores[invocation] = total;
    workgroupBarrier();
    if c == 0u {
        total = 0.0;
        for (var j = 0u; j < BLOCK; j++) {
            total += scores[r * BLOCK + j];
        }
        totals[r] = total;
        if first + r < tokens {
            log_sum[params.base + begin + first + r] = peak + log(total);
        }
    }
    workgroupBarrier();
    for (var g = 0u; g < 4u; g++) {
        let column = SLAB * g + d;
        for (var i = 0u; i < 4u; i++) {
            if column < dim && first + four + i < tokens {
                let element = (begin + first + four + i) * dim + column;
                let value = out[4u * g + i] / totals[four + i];
                mixed[element] = stored(value);
                let place = params.base * dim + element;
                y[element] = stored(f32(x[element])
                    + value * drop_factor(params.drop_below, params.drop_scale, params.drop_key, place));
            }
        }
    }
}

// Alone with its registers, an invocation has 4 tokens, as queries; D is at most 64. Tokens are taken in their order, so
// that a block may hold the end of a sequence and the beginning of the next.

const ROWS = 4u;
const QUADS = 16u; // vectors of a row
const TILE = 32u; // keys that are scored before their values are used

alias Columns = array<vec4<f32>, QUADS>;

// The row of `qkv` from vector `at` on, zeros where it has no more.
fn columns(at: u32, quads: u32) -> Columns {
    var row: Columns;
    for (var i = 0u; i < QUADS; i++) {
        row[i] = select(vec4(0.0), qkv_vector(at + min(i, quads - 1u)), i < quads);
    }
    return row;
}

fn qkv_vector(at: u32) -> vec4<f32> {
    if qkv_from_uniform {
        return qkv_uniform[at];
    }
    return vec4<f32>(qkv4[at]);
}

// Dot products of four rows' columns with another's.
fn products(
    a: ptr<function, Columns>,
    b: ptr<function, Columns>,
    c: ptr<function, Columns>,
    d: ptr<function, Columns>,
    other: ptr<function, Columns>,
) -> vec4<f32> {
    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    for (var i = 0u; i < QUADS; i++) {
        sum0 += (*a)[i] * (*other)[i];
        sum1 += (*b)[i] * (*other)[i];
        sum2 += (*c)[i] * (*other)[i];
        sum3 += (*d)[i] * (*other)[i];
    }
    return vec4(dot(sum0, vec4(1.0)), dot(sum1, vec4(1.0)), dot(sum2, vec4(1.0)), dot(sum3, vec4(1.0)));
}

fn share_factors(pairs: vec4<u32>) -> vec4<f32> {
    return vec4(
        drop_factor(params.share_below, params.share_scale, params.share_key, pairs.x),
        drop_factor(params.share_below, params.share_scale, params.share_key, pairs.y),
        drop_factor(params.share_below, params.share_scale, params.share_key, pairs.z),
        drop_factor(params.share_below, params.share_scale, params.share_key, pairs.w),
    );
}

fn drop_factors(element: u32) -> vec4<f32> {
    return vec4(
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 1u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 2u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 3u),
    );
}

fn finish(token: u32, quads: u32, out: ptr<function, Columns>, total: f32) {
    for (var i = 0u; i < QUADS; i++) {
        if i < quads {
            let at = token * quads + i;
            let value = (*out)[i] / total;
            mixed4[at] = stored4(value);
            y4[at] = stored4(vec4<f32>(x4[at]) + value * drop_factors(params.base * params.dim + 4u * at));
        }
    }
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = params.dim / 4u;
    let wide = 3u * quads;
    // Tokens are counted from `base` on.
    let start_token = offsets[params.first_sequence] - params.base;
    let first = start_token + ((group.x + group.y * groups.x) * 8u + lane) * ROWS;
    if first >= start_token + params.tokens {
        return;
    }
    let last = min(first + ROWS, start_token + params.tokens) - 1u;
    let query = min(vec4(first) + vec4(0u, 1u, 2u, 3u), vec4(last));
    let token = params.base + query;
    let begin =
        vec4(offsets[owners[token.x]], offsets[owners[token.y]], offsets[owners[token.z]], offsets[owners[token.w]])
        - params.base;
    let pairs = token * params.length - begin; // and the key's token: element of the shares' mask

    var query0 = columns(query.x * wide, quads);
    var query1 = columns(query.y * wide, quads);
    var query2 = columns(query.z * wide, quads);
    var query3 = columns(query.w * wide, quads);
    var out0: Columns;
    var out1: Columns;
    var out2: Columns;
    var out3: Columns;
    for (var i = 0u; i < QUADS; i++) {
        out0[i] = vec4(0.0);
        out1[i] = vec4(0.0);
        out2[i] = vec4(0.0);
        out3[i] = vec4(0.0);
    }
    var peak = vec4(LOWEST);
    var total = vec4(0.0);
    var tile: array<vec4<f32>, TILE>; // scores of the 4 queries with each key of a tile
    for (var start = begin.x; start <= last; start += TILE) {
        let count = min(TILE, last + 1u - start);
        let before = peak;
        for (var n = 0u; n < count; n++) {
            var key = columns((start + n) * wide + quads, quads);
            let score = products(&query0, &query1, &query2, &query3, &key);
            let allowed = (vec4(start + n) >= begin) & (vec4(start + n) <= query);
            tile[n] = select(vec4(LOWEST), score * params.scale, allowed);
            peak = max(peak, tile[n]);
        }
        let shrink = exp(before - peak);
        total *= shrink;
        for (var i = 0u; i < QUADS; i++) {
            out0[i] *= shrink.x;
            out1[i] *= shrink.y;
            out2[i] *= shrink.z;
            out3[i] *= shrink.w;
        }
        for (var n = 0u; n < count; n++) {
            let allowed = (vec4(start + n) >= begin) & (vec4(start + n) <= query);
            // Keys that are not a query's have no share, whatever the maximum is.
            var share = select(vec4(0.0), exp(tile[n] - peak), allowed);
            total += share;
            share *= share_factors(pairs + start + n);
            var value = columns((start + n) * wide + 2u * quads, quads);
            for (var i = 0u; i < QUADS; i++) {
                out0[i] += share.x * value[i];
                out1[i] += share.y * value[i];
                out2[i] += share.z * value[i];
                out3[i] += share.w * value[i];
            }
        }
    }
    finish(query.x, quads, &out0, total.x);
    if first + 1u <= last {
        finish(query.y, quads, &out1, total.y);
    }
    if first + 2u <= last {
        finish(query.z, quads, &out2, total.z);
    }
    if first + 3u <= last {
        finish(query.w, quads, &out3, total.w);
    }
    let sums = peak + log(total);
    for (var r = 0u; r <= last - first; r++) {
        log_sum[params.base + first + r] = sums[r];
    }
}
