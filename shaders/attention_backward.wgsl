// Gradients of queries, keys and values, with p_ij = exp(q_i . k_j / sqrt(D) - log_sum_i) and do = mask * dy:
//   dv_j = sum_i mask_ij p_ij do_i,  ds_ij = p_ij do_i . (mask_ij v_j - o_i),
//   dq_i = sum_j ds_ij k_j / sqrt(D),  dk_j = sum_i ds_ij q_i / sqrt(D)
//
// Group (x, y, b) has block b of 8 tokens of its sequence: first as queries, which meet the blocks of 8 keys up to their
// own and give dq, then as keys, which meet the blocks of 8 queries from their own on and give dk and dv; so all groups of
// a sequence have the same work. Where blocks meet, invocation (r, c) of 8 x 8 has pair (query r, key c). Outputs are held
// by column: invocation n has columns n, n + 64, n + 128, n + 192 of all 8 rows.
// Parameters: kernels::attention_backward::Params.

struct Params {
    sequences: u32,
    dim: u32,
    scale: f32,
    length: u32,
    share_below: u32,
    share_scale: f32,
    share_key: u32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> offsets: array<u32>; // [sequences + 1]
@group(0) @binding(2) var<storage, read> qkv: array<f32>; // [tokens, 3, dim]
@group(0) @binding(3) var<storage, read> mixed: array<f32>; // o, [tokens, dim]
@group(0) @binding(4) var<storage, read> log_sum: array<f32>; // [tokens]
@group(0) @binding(5) var<storage, read> dy: array<f32>; // [tokens, dim]
@group(0) @binding(6) var<storage, read_write> dqkv: array<f32>; // [tokens, 3, dim]

const BLOCK = 8u;
const SLAB = 32u;

// All [row of the block, slab dimension], rows 33 apart to spread over the banks.
var<workgroup> queries: array<f32, 264>;
var<workgroup> keys: array<f32, 264>;
var<workgroup> values: array<f32, 264>;
var<workgroup> outputs: array<f32, 264>; // do
var<workgroup> shares: array<f32, 64>; // mask_ij p_ij, [query, key]
var<workgroup> dscores: array<f32, 64>; // ds_ij / sqrt(D), [query, key]
var<workgroup> mixtures: array<f32, 264>; // o

// The same in every shader that drops out; src/kernels/dropout.rs says what it is.
fn drop_factor(below: u32, scale: f32, key: u32, element: u32) -> f32 {
    var x = element * 0x9e3779b1u + key;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    x = x ^ (x >> 16u);
    return select(scale, 0.0, x < below);
}

// The block of queries from `first` on meets that of keys from `start` on: leaves their `shares` and `dscores`.
fn meet(begin: u32, tokens: u32, first: u32, start: u32, invocation: u32) {
    let dim = params.dim;
    let wide = 3u * dim;
    let r = invocation / BLOCK;
    let c = invocation % BLOCK;
    let token = begin + first + r;
    let pair = token * params.length + start + c;
    let kept = drop_factor(params.share_below, params.share_scale, params.share_key, pair);
    var score = 0.0; // q . k
    // do . (mask v - o): the difference first, which is exact where a share is almost 1 and o almost v
    var along = 0.0;
    for (var slab = 0u; slab < dim; slab += SLAB) {
        workgroupBarrier();
        for (var n = 0u; n < 4u; n++) {
            let e = invocation + 64u * n;
            let row = e / SLAB;
            let d = slab + e % SLAB;
            var q = 0.0;
            var k = 0.0;
            var v = 0.0;
            var o = 0.0;
            var mixture = 0.0;
            if d < dim {
                if first + row < tokens {
                    let element = (begin + first + row) * dim + d;
                    q = qkv[(begin + first + row) * wide + d];
                    o = doutput(element);
                    mixture = mixed[element];
                }
                if start + row < tokens {
                    k = qkv[(begin + start + row) * wide + dim + d];
                    v = qkv[(begin + start + row) * wide + 2u * dim + d];
                }
            }
            let at = row * 33u + e % SLAB;
            queries[at] = q;
            keys[at] = k;
            values[at] = v;
            outputs[at] = o;
            mixtures[at] = mixture;
        }
        workgroupBarrier();
        for (var d = 0u; d < SLAB; d++) {
            score += queries[r * 33u + d] * keys[c * 33u + d];
            along += outputs[r * 33u + d] * (kept * values[c * 33u + d] - mixtures[r * 33u + d]);
        }
    }
    var share = 0.0;
    var dscore = 0.0;
    if start + c <= first + r && first + r < tokens {
        let probability = exp(score * params.scale - log_sum[token]);
        share = kept * probability;
        dscore = probability * along * params.scale;
    }
    shares[invocation] = share;
    dscores[invocation] = dscore;
    workgroupBarrier();
}

// do of an element: the gradient through the output's dropout
fn doutput(element: u32) -> f32 {
    return dy[element] * drop_factor(params.drop_below, params.drop_scale, params.drop_key, element);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let sequence = group.x + group.y * groups.x;
    if sequence >= params.sequences {
        return;
    }
    let begin = offsets[sequence];
    let tokens = offsets[sequence + 1u] - begin;
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
        for (var g = 0u; g < 4u; g++) {
            let column = 64u * g + invocation;
            if column < dim {
                for (var j = 0u; j < min(BLOCK, tokens - start); j++) {
                    let key = qkv[(begin + start + j) * wide + dim + column];
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
        meet(begin, tokens, first, own, invocation);
        for (var g = 0u; g < 4u; g++) {
            let column = 64u * g + invocation;
            if column < dim {
                for (var row = 0u; row < min(BLOCK, tokens - first); row++) {
                    let token = begin + first + row;
                    let query = qkv[token * wide + column];
                    let output = doutput(token * dim + column);
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
