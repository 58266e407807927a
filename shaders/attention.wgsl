// y = x + dropout(o), o_i = sum over j <= i of mask_ij softmax_j(q_i . k_j / sqrt(D)) v_j within a sequence;
// keeps o (`mixed`) and ln(sum(exp(scores))) of each query.
//
// Group (x, y, b) has block b of 8 queries of its sequence, which meets blocks of 8 keys: invocation (r, c) of 8 x 8
// scores query r with key c from slabs of 32 dimensions in group memory, then the running maximum, sum and output are
// updated (an online softmax); outputs are held by column: invocation n has columns n, n + 64, n + 128, n + 192 of all
// 8 rows.
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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // of all sequences, and the end
@group(0) @binding(2) var<storage, read> owners: array<u32>; // sequence of each of all tokens
@group(0) @binding(3) var<storage, read> qkv: array<f32>; // from token `base` on, like the others: [tokens, 3, dim]
@group(0) @binding(3) var<storage, read> qkv4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> x: array<f32>; // [tokens, dim]
@group(0) @binding(4) var<storage, read> x4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // [tokens, dim]
@group(0) @binding(5) var<storage, read_write> y4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> mixed: array<f32>; // [tokens, dim]
@group(0) @binding(6) var<storage, read_write> mixed4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> log_sum: array<f32>; // of all tokens
@group(0) @binding(8) var<uniform> qkv_uniform: array<vec4<f32>, 4096>; // the first of `qkv`

override qkv_from_uniform: bool = false; // whether qkv is all there

const BLOCK = 8u;
const SLAB = 32u;
const LOWEST = -3.4028234e38;

var<workgroup> queries: array<f32, 264>; // [query, slab dimension], rows 33 apart to spread over the banks
var<workgroup> keys: array<f32, 264>; // [key, slab dimension]
var<workgroup> scores: array<f32, 64>; // [query, key]: scores, then shares
var<workgroup> peaks: array<f32, 8>; // running maximum of each query
var<workgroup> totals: array<f32, 8>; // running sum of exp(score - maximum)
var<workgroup> shrinks: array<f32, 8>; // what the sums so far are multiplied with

// The same in every shader that drops out; src/kernels/dropout.rs says what it is.
fn drop_factor(below: u32, scale: f32, key: u32, element: u32) -> f32 {
    var x = element * 0x9e3779b1u + key;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    x = x ^ (x >> 16u);
    return select(scale, 0.0, x < below);
}

@compute @workgroup_size(64)
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
    let wide = 3u * dim;
    let r = invocation / BLOCK;
    let c = invocation % BLOCK;
    // Element (row, columns 64 g + invocation) is out[8 g + row].
    var out: array<f32, 32>;
    for (var e = 0u; e < 32u; e++) {
        out[e] = 0.0;
    }
    if invocation < BLOCK {
        peaks[invocation] = LOWEST;
        totals[invocation] = 0.0;
    }
    for (var start = 0u; start <= first; start += BLOCK) {
        var score = 0.0;
        for (var slab = 0u; slab < dim; slab += SLAB) {
            workgroupBarrier();
            for (var n = 0u; n < 4u; n++) {
                let e = invocation + 64u * n;
                let row = e / SLAB;
                let d = slab + e % SLAB;
                var q = 0.0;
                var k = 0.0;
                if d < dim {
                    if first + row < tokens {
                        q = qkv[(begin + first + row) * wide + d];
                    }
                    if start + row < tokens {
                        k = qkv[(begin + start + row) * wide + dim + d];
                    }
                }
                queries[row * 33u + e % SLAB] = q;
                keys[row * 33u + e % SLAB] = k;
            }
            workgroupBarrier();
            for (var d = 0u; d < SLAB; d++) {
                score += queries[r * 33u + d] * keys[c * 33u + d];
            }
        }
        let allowed = start + c <= first + r && first + r < tokens;
        scores[invocation] = select(LOWEST, score * params.scale, allowed);
        workgroupBarrier();
        if invocation < BLOCK {
            var peak = peaks[invocation];
            for (var j = 0u; j < BLOCK; j++) {
                peak = max(peak, scores[invocation * BLOCK + j]);
            }
            let shrink = exp(peaks[invocation] - peak);
            var total = totals[invocation] * shrink;
            for (var j = 0u; j < BLOCK; j++) {
                let at = invocation * BLOCK + j;
                // Keys after the query have no share, whatever the maximum is.
                let share = select(0.0, exp(scores[at] - peak), start + j <= first + invocation);
                total += share;
                let element = (params.base + begin + first + invocation) * params.length + start + j;
                scores[at] = share * drop_factor(params.share_below, params.share_scale, params.share_key, element);
            }
            peaks[invocation] = peak;
            totals[invocation] = total;
            shrinks[invocation] = shrink;
        }
        workgroupBarrier();
        for (var g = 0u; g < 4u; g++) {
            let column = 64u * g + invocation;
            if column < dim {
                for (var row = 0u; row < BLOCK; row++) {
                    out[8u * g + row] *= shrinks[row];
                }
                for (var j = 0u; j < min(BLOCK, tokens - start); j++) {
                    let value = qkv[(begin + start + j) * wide + 2u * dim + column];
                    for (var row = 0u; row < BLOCK; row++) {
                        out[8u * g + row] += scores[row * BLOCK + j] * value;
                    }
                }
            }
        }
    }
    for (var g = 0u; g < 4u; g++) {
        let column = 64u * g + invocation;
        if column < dim {
            for (var row = 0u; row < min(BLOCK, tokens - first); row++) {
                let element = (begin + first + row) * dim + column;
                let value = out[8u * g + row] / totals[row];
                mixed[element] = value;
                let place = params.base * dim + element;
                y[element] = x[element]
                    + value * drop_factor(params.drop_below, params.drop_scale, params.drop_key, place);
            }
        }
    }
    if invocation < min(BLOCK, tokens - first) {
        log_sum[params.base + begin + first + invocation] = peaks[invocation] + log(totals[invocation]);
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
    return qkv4[at];
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
            mixed4[at] = value;
            y4[at] = x4[at] + value * drop_factors(params.base * params.dim + 4u * at);
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
