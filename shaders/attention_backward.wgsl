// Gradients of queries, keys and values, with p_ij = exp(q_i . k_j / sqrt(D) - log_sum_i) and do = mask * dy:
//   dv_j = sum_i mask_ij p_ij do_i,  ds_ij = p_ij do_i . (mask_ij v_j - o_i),
//   dq_i = sum_j ds_ij k_j / sqrt(D),  dk_j = sum_i ds_ij q_i / sqrt(D)
//
// Group (x, y, b) has block b of 8 tokens of its sequence: first as queries, which meet the blocks of 8 keys up to their
// own and give dq, then as keys, which meet the blocks of 8 queries from their own on and give dk and dv; so all groups of
// a sequence have the same work. Where blocks meet, invocation (r, c) of 8 x 8 has pair (query r, key c) and goes through
// slabs of 64 dimensions in group memory, which are read anew only where others took their place: up to 64 dimensions, the
// block's own rows and those it meets are read once. Outputs are held by column: invocation n has columns n, n + 64,
// n + 128, n + 192 of all 8 rows.
// Parameters: kernels::attention_backward::Params.

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

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // of all sequences, and the end
@group(0) @binding(2) var<storage, read> owners: array<u32>; // sequence of each of all tokens
@group(0) @binding(3) var<storage, read> qkv: array<activation>; // from token `base` on, like the others: [tokens, 3, dim]
@group(0) @binding(3) var<storage, read> qkv4: array<vec4<activation>>;
@group(0) @binding(4) var<storage, read> mixed: array<activation>; // o, [tokens, dim]
@group(0) @binding(4) var<storage, read> mixed4: array<vec4<activation>>;
@group(0) @binding(5) var<storage, read> log_sum: array<f32>; // of all tokens
@group(0) @binding(6) var<storage, read> dy: array<f32>; // [tokens, dim]
@group(0) @binding(6) var<storage, read> dy4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dqkv: array<f32>; // [tokens, 3, dim]
@group(0) @binding(7) var<storage, read_write> dqkv4: array<vec4<f32>>;
@group(0) @binding(8) var<uniform> qkv_uniform: array<vec4<f32>, 4096>; // the first of `qkv`
@group(0) @binding(9) var<uniform> mixed_uniform: array<vec4<f32>, 4096>; // the first of `mixed`
@group(0) @binding(10) var<uniform> dy_uniform: array<vec4<f32>, 4096>; // the first of `dy`

override qkv_from_uniform: bool = false; // whether qkv is all there
override mixed_from_uniform: bool = false; // whether mixed is
override dy_from_uniform: bool = false; // whether dy is

const BLOCK = 8u;
const SLAB = 64u;
const APART = 65u; // rows are one more apart than a slab, to spread over the banks

// All [row of the block, slab dimension].
var<workgroup> queries: array<f32, 520>;
var<workgroup> outputs: array<f32, 520>; // do
var<workgroup> mixtures: array<f32, 520>; // o
var<workgroup> keys: array<f32, 520>;
var<workgroup> values: array<f32, 520>;
var<workgroup> shares: array<f32, 64>; // mask_ij p_ij, [query, key]
var<workgroup> dscores: array<f32, 64>; // ds_ij / sqrt(D), [query, key]

// Which rows, from a token of the sequence on, and which slab of them are there.
var<private> held_queries = vec2<u32>(0xffffffffu);
var<private> held_keys = vec2<u32>(0xffffffffu);

// The same in every shader that drops out; src/kernels/dropout.rs says what it is.
fn drop_factor(below: u32, scale: f32, key: u32, element: u32) -> f32 {
    var x = element * 0x9e3779b1u + key;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    x = x ^ (x >> 16u);
    return select(scale, 0.0, x < below);
}

// do of an element: the gradient through the output's dropout
fn doutput(element: u32) -> f32 {
    let place = params.base * params.dim + element;
    return dy[element] * drop_factor(params.drop_below, params.drop_scale, params.drop_key, place);
}

// Has `queries`, `outputs` and `mixtures` hold a slab of 8 tokens from `first` of the sequence on, zeros where there are
// none. An invocation brings its own column, and may use that without a barrier.
fn hold_queries(begin: u32, tokens: u32, first: u32, slab: u32, invocation: u32) {
    if all(held_queries == vec2<u32>(first, slab)) {
        return;
    }
    held_queries = vec2<u32>(first, slab);
    let column = min(slab + invocation, params.dim - 1u);
    for (var row = 0u; row < BLOCK; row++) {
        let inside = slab + invocation < params.dim && first + row < tokens;
        let token = begin + min(first + row, tokens - 1u);
        let element = token * params.dim + column;
        let at = row * APART + invocation;
        queries[at] = select(0.0, f32(qkv[token * 3u * params.dim + column]), inside);
        outputs[at] = select(0.0, doutput(element), inside);
        mixtures[at] = select(0.0, f32(mixed[element]), inside);
    }
}

// The same of `keys` and `values`.
fn hold_keys(begin: u32, tokens: u32, first: u32, slab: u32, invocation: u32) {
    if all(held_keys == vec2<u32>(first, slab)) {
        return;
    }
    held_keys = vec2<u32>(first, slab);
    let column = min(slab + invocation, params.dim - 1u);
    for (var row = 0u; row < BLOCK; row++) {
        let inside = slab + invocation < params.dim && first + row < tokens;
        let element = ((begin + min(first + row, tokens - 1u)) * 3u + 1u) * params.dim + column;
        let at = row * APART + invocation;
        keys[at] = select(0.0, f32(qkv[element]), inside);
        values[at] = select(0.0, f32(qkv[element + params.dim]), inside);
    }
}

// The block of queries from `first` on meets that of keys from `start` on: leaves their `shares` and `dscores`.
fn meet(begin: u32, tokens: u32, first: u32, start: u32, invocation: u32) {
    let r = invocation / BLOCK;
    let c = invocation % BLOCK;
    let token = begin + first + r;
    let pair = (params.base + token) * params.length + start + c;
    let kept = drop_factor(params.share_below, params.share_scale, params.share_key, pair);
    var score = 0.0; // q . k
    // do . (mask v - o): the difference first, which is exact where a share is almost 1 and o almost v
    var along = 0.0;
    for (var slab = 0u; slab < params.dim; slab += SLAB) {
        workgroupBarrier();
        hold_queries(begin, tokens, first, slab, invocation);
        hold_keys(begin, tokens, start, slab, invocation);
        workgroupBarrier();
        for (var eighth = 0u; eighth < min(SLAB, params.dim - slab); eighth += 8u) {
            for (var i = 0u; i < 8u; i++) {
                let query = r * APART + eighth + i;
                let key = c * APART + eighth + i;
                score += queries[query] * keys[key];
                along += outputs[query] * (kept * values[key] - mixtures[query]);
            }
        }
    }
    var share = 0.0;
    var dscore = 0.0;
    if start + c <= first + r && first + r < tokens {
        let probability = exp(score * params.scale - log_sum[params.base + token]);
        share = kept * probability;
        dscore = probability * along * params.scale;
    }
    shares[invocation] = share;
    dscores[invocation] = dscore;
    workgroupBarrier();
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
    let own = group.z * BLOCK;
    if own >= tokens {
        return;
    }
    let dim = params.dim;
    let wide = 3u * dim;
    let rows = min(BLOCK, tokens - own);

    // Element (row, columns 64 g + invocation) is dquery[8 g + row].
    var dquery: array<f32, 32>;
    for (var e = 0u; e < 32u; e++) {
        dquery[e] = 0.0;
    }
    for (var start = 0u; start <= own; start += BLOCK) {
        meet(begin, tokens, own, start, invocation);
        for (var slab = 0u; slab < 4u; slab++) {
            let g = 3u - slab; // the last one is there already
            if SLAB * g + invocation < dim {
                hold_keys(begin, tokens, start, SLAB * g, invocation);
                for (var j = 0u; j < min(BLOCK, tokens - start); j++) {
                    let key = keys[j * APART + invocation];
                    for (var row = 0u; row < BLOCK; row++) {
                        dquery[8u * g + row] += dscores[row * BLOCK + j] * key;
                    }
                }
            }
        }
    }
    for (var g = 0u; g < 4u; g++) {
        let column = 64u * g + invocation;
        if column < dim {
            for (var row = 0u; row < rows; row++) {
                dqkv[(begin + own + row) * wide + column] = dquery[8u * g + row];
            }
        }
    }

    // Element (key j, columns 64 g + invocation) is at 8 g + j.
    var dkey: array<f32, 32>;
    var dvalue: array<f32, 32>;
    for (var e = 0u; e < 32u; e++) {
        dkey[e] = 0.0;
        dvalue[e] = 0.0;
    }
    for (var first = own; first < tokens; first += BLOCK) {
        if first > own {
            meet(begin, tokens, first, own, invocation); // the block itself has just met its own keys
        }
        for (var slab = 0u; slab < 4u; slab++) {
            let g = 3u - slab; // the last one is there already
            if SLAB * g + invocation < dim {
                hold_queries(begin, tokens, first, SLAB * g, invocation);
                for (var row = 0u; row < min(BLOCK, tokens - first); row++) {
                    let query = queries[row * APART + invocation];
                    let output = outputs[row * APART + invocation];
                    for (var j = 0u; j < BLOCK; j++) {
                        dkey[8u * g + j] += dscores[row * BLOCK + j] * query;
                        dvalue[8u * g + j] += shares[row * BLOCK + j] * output;
                    }
                }
            }
        }
    }
    for (var g = 0u; g < 4u; g++) {
        let column = 64u * g + invocation;
        if column < dim {
            for (var j = 0u; j < rows; j++) {
                let at = (begin + own + j) * wide + dim + column;
                dqkv[at] = dkey[8u * g + j];
                dqkv[at + dim] = dvalue[8u * g + j];
            }
        }
    }
}

// Alone with its registers, an invocation has 4 tokens, first as queries, then as keys; D is at most 64. Tokens are taken
// in their order, so that a block may hold the end of a sequence and the beginning of the next.

const ROWS = 4u;
const QUADS = 16u; // vectors of a row

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

fn mixed_vector(at: u32) -> vec4<f32> {
    if mixed_from_uniform {
        return mixed_uniform[at];
    }
    return vec4<f32>(mixed4[at]);
}

fn dy_vector(at: u32) -> vec4<f32> {
    if dy_from_uniform {
        return dy_uniform[at];
    }
    return dy4[at];
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


// do of a token.
fn output_columns(token: u32, quads: u32) -> Columns {
    var row: Columns;
    for (var i = 0u; i < QUADS; i++) {
        let at = token * quads + min(i, quads - 1u);
        row[i] = select(vec4(0.0), dy_vector(at) * drop_factors(params.base * params.dim + 4u * at), i < quads);
    }
    return row;
}

// do . o of a token, summed as `products` are: where o is v they cancel
fn along_mixed(token: u32, quads: u32, output: ptr<function, Columns>) -> f32 {
    var sum = vec4(0.0);
    for (var i = 0u; i < QUADS; i++) {
        sum += (*output)[i] * mixed_vector(token * quads + min(i, quads - 1u));
    }
    return dot(sum, vec4(1.0));
}

fn store(at: u32, quads: u32, gradient: ptr<function, Columns>) {
    for (var i = 0u; i < QUADS; i++) {
        if i < quads {
            dqkv4[at + i] = (*gradient)[i];
        }
    }
}

fn zeros() -> Columns {
    var row: Columns;
    for (var i = 0u; i < QUADS; i++) {
        row[i] = vec4(0.0);
    }
    return row;
}

// dq of the tokens.
fn as_queries(first: u32, last: u32) {
    let quads = params.dim / 4u;
    let wide = 3u * quads;
    let query = min(vec4(first) + vec4(0u, 1u, 2u, 3u), vec4(last));
    let own = params.base + query;
    let begin =
        vec4(offsets[owners[own.x]], offsets[owners[own.y]], offsets[owners[own.z]], offsets[owners[own.w]])
        - params.base;
    let pairs = own * params.length - begin; // and the key's token: element of the shares' mask
    let log_sums = vec4(log_sum[own.x], log_sum[own.y], log_sum[own.z], log_sum[own.w]);

    var query0 = columns(query.x * wide, quads);
    var query1 = columns(query.y * wide, quads);
    var query2 = columns(query.z * wide, quads);
    var query3 = columns(query.w * wide, quads);
    var output0 = output_columns(query.x, quads);
    var output1 = output_columns(query.y, quads);
    var output2 = output_columns(query.z, quads);
    var output3 = output_columns(query.w, quads);
    var along = vec4( // do . o
        along_mixed(query.x, quads, &output0),
        along_mixed(query.y, quads, &output1),
        along_mixed(query.z, quads, &output2),
        along_mixed(query.w, quads, &output3),
    );
    var dquery0 = zeros();
    var dquery1 = zeros();
    var dquery2 = zeros();
    var dquery3 = zeros();
    for (var token = begin.x; token <= last; token++) {
        var value = columns(token * wide + 2u * quads, quads);
        let into = products(&output0, &output1, &output2, &output3, &value);
        var key = columns(token * wide + quads, quads);
        let score = products(&query0, &query1, &query2, &query3, &key);
        let allowed = (vec4(token) >= begin) & (vec4(token) <= query);
        let probability = select(vec4(0.0), exp(score * params.scale - log_sums), allowed);
        let dscore = probability * (share_factors(pairs + token) * into - along) * params.scale;
        for (var i = 0u; i < QUADS; i++) {
            dquery0[i] += dscore.x * key[i];
            dquery1[i] += dscore.y * key[i];
            dquery2[i] += dscore.z * key[i];
            dquery3[i] += dscore.w * key[i];
        }
    }
    store(query.x * wide, quads, &dquery0);
    if first + 1u <= last {
        store(query.y * wide, quads, &dquery1);
    }
    if first + 2u <= last {
        store(query.z * wide, quads, &dquery2);
    }
    if first + 3u <= last {
        store(query.w * wide, quads, &dquery3);
    }
}

// dk and dv of the tokens.
fn as_keys(first: u32, last: u32) {
    let quads = params.dim / 4u;
    let wide = 3u * quads;
    let key = min(vec4(first) + vec4(0u, 1u, 2u, 3u), vec4(last));
    let own = params.base + key;
    let owner = vec4(owners[own.x], owners[own.y], owners[own.z], owners[own.w]);
    let begin = vec4(offsets[owner.x], offsets[owner.y], offsets[owner.z], offsets[owner.w]) - params.base;
    let end =
        vec4(offsets[owner.x + 1u], offsets[owner.y + 1u], offsets[owner.z + 1u], offsets[owner.w + 1u]) - params.base;
    let places = key - begin;

    var key0 = columns(key.x * wide + quads, quads);
    var key1 = columns(key.y * wide + quads, quads);
    var key2 = columns(key.z * wide + quads, quads);
    var key3 = columns(key.w * wide + quads, quads);
    var value0 = columns(key.x * wide + 2u * quads, quads);
    var value1 = columns(key.y * wide + 2u * quads, quads);
    var value2 = columns(key.z * wide + 2u * quads, quads);
    var value3 = columns(key.w * wide + 2u * quads, quads);
    var dkey0 = zeros();
    var dkey1 = zeros();
    var dkey2 = zeros();
    var dkey3 = zeros();
    var dvalue0 = zeros();
    var dvalue1 = zeros();
    var dvalue2 = zeros();
    var dvalue3 = zeros();
    for (var token = first; token < end.w; token++) {
        var query = columns(token * wide, quads);
        let score = products(&key0, &key1, &key2, &key3, &query);
        let allowed = (vec4(token) >= key) & (vec4(token) < end);
        let probability = select(vec4(0.0), exp(score * params.scale - log_sum[params.base + token]), allowed);
        let kept = share_factors((params.base + token) * params.length + places);
        var output = output_columns(token, quads);
        let into = products(&value0, &value1, &value2, &value3, &output);
        let along = along_mixed(token, quads, &output);
        let share = kept * probability;
        let dscore = probability * (kept * into - along) * params.scale;
        for (var i = 0u; i < QUADS; i++) {
            dkey0[i] += dscore.x * query[i];
            dkey1[i] += dscore.y * query[i];
            dkey2[i] += dscore.z * query[i];
            dkey3[i] += dscore.w * query[i];
            dvalue0[i] += share.x * output[i];
            dvalue1[i] += share.y * output[i];
            dvalue2[i] += share.z * output[i];
            dvalue3[i] += share.w * output[i];
        }
    }
    store(key.x * wide + quads, quads, &dkey0);
    store(key.x * wide + 2u * quads, quads, &dvalue0);
    if first + 1u <= last {
        store(key.y * wide + quads, quads, &dkey1);
        store(key.y * wide + 2u * quads, quads, &dvalue1);
    }
    if first + 2u <= last {
        store(key.z * wide + quads, quads, &dkey2);
        store(key.z * wide + 2u * quads, quads, &dvalue2);
    }
    if first + 3u <= last {
        store(key.w * wide + quads, quads, &dkey3);
        store(key.w * wide + 2u * quads, quads, &dvalue3);
    }
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Tokens are counted from `base` on.
    let start = offsets[params.first_sequence] - params.base;
    let first = start + ((group.x + group.y * groups.x) * 8u + lane) * ROWS;
    if first >= start + params.tokens {
        return;
    }
    let last = min(first + ROWS, start + params.tokens) - 1u;
    as_queries(first, last);
    as_keys(first, last);
}
