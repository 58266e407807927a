// Gradients of queries, keys and values, with p_ij = exp(q_i . k_j / sqrt(D) - log_sum_i) and do = mask * dy:
//   dv_j = sum_i mask_ij p_ij do_i,  ds_ij = p_ij (mask_ij do_i . v_j - do_i . o_i),
//   dq_i = sum_j ds_ij k_j / sqrt(D),  dk_j = sum_i ds_ij q_i / sqrt(D)
//
// A workgroup a sequence. Blocks of 8 queries meet blocks of 8 keys: invocation (r, c) of 8 x 8 has pair (query r, key c).
// Outputs are held by column: invocation n has columns n, n + 64, ...; it alone adds to those of dk and dv, block by
// block of queries, so that each sum has one order. Parameters: kernels::attention_backward::Params.

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
    let dim = params.dim;
    let wide = 3u * dim;
    let r = invocation / BLOCK;
    let c = invocation % BLOCK;
    for (var first = 0u; first < tokens; first += BLOCK) {
        let rows = min(BLOCK, tokens - first);
        // do . o of query r, summed just as do . v is, with the first keys: where one share is 1, the two are to cancel.
        var along = 0.0;
        // Element (row, columns 64 g + invocation) is dquery[8 g + row].
        var dquery: array<f32, 32>;
        for (var e = 0u; e < 32u; e++) {
            dquery[e] = 0.0;
        }
        for (var start = 0u; start <= first; start += BLOCK) {
            var score = 0.0; // q . k
            var dshare = 0.0; // do . v
            for (var slab = 0u; slab < dim; slab += SLAB) {
                workgroupBarrier();
                for (var e = invocation; e < BLOCK * SLAB; e += 64u) {
                    let row = e / SLAB;
                    let d = slab + e % SLAB;
                    var q = 0.0;
                    var k = 0.0;
                    var v = 0.0;
                    var o = 0.0;
                    var mixture = 0.0;
                    if d < dim {
                        if first + row < tokens {
                            q = qkv[(begin + first + row) * wide + d];
                            o = doutput((begin + first + row) * dim + d);
                            mixture = mixed[(begin + first + row) * dim + d];
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
                    dshare += outputs[r * 33u + d] * values[c * 33u + d];
                }
                if start == 0u {
                    for (var d = 0u; d < SLAB; d++) {
                        along += outputs[r * 33u + d] * mixtures[r * 33u + d];
                    }
                }
            }
            var share = 0.0;
            var dscore = 0.0;
            if start + c <= first + r && r < rows {
                let token = begin + first + r;
                let probability = exp(score * params.scale - log_sum[token]);
                let element = token * params.length + start + c;
                let kept = drop_factor(params.share_below, params.share_scale, params.share_key, element);
                share = kept * probability;
                dscore = probability * (kept * dshare - along) * params.scale;
            }
            shares[invocation] = share;
            dscores[invocation] = dscore;
            workgroupBarrier();
            for (var g = 0u; g < 4u; g++) {
                let column = 64u * g + invocation;
                if column < dim {
                    for (var j = 0u; j < min(BLOCK, tokens - start); j++) {
                        let key_at = (begin + start + j) * wide + dim + column;
                        let key = qkv[key_at];
                        var dkey = 0.0;
                        var dvalue = 0.0;
                        for (var row = 0u; row < BLOCK; row++) {
                            dquery[8u * g + row] += dscores[row * BLOCK + j] * key;
                        }
                        for (var row = 0u; row < rows; row++) {
                            let token = begin + first + row;
                            dkey += dscores[row * BLOCK + j] * qkv[token * wide + column];
                            dvalue += shares[row * BLOCK + j] * doutput(token * dim + column);
                        }
                        // The first block of queries that sees a key is the key's own.
                        if start != first {
                            dkey += dqkv[key_at];
                            dvalue += dqkv[key_at + dim];
                        }
                        dqkv[key_at] = dkey;
                        dqkv[key_at + dim] = dvalue;
                    }
                }
            }
        }
        for (var g = 0u; g < 4u; g++) {
            let column = 64u * g + invocation;
            if column < dim {
                for (var row = 0u; row < rows; row++) {
                    dqkv[(begin + first + row) * wide + column] = dquery[8u * g + row];
                }
            }
        }
        workgroupBarrier();
    }
}
