// dquery_r = scale * sum over both losses and their candidates n of share_rn candidate_n
// dcandidate_n = scale * sum over r of share_rn query_r
// share_rn = exp(scale * query_r . candidate_n - m_r - l_r) - [r = positive_n], with the loss's shift (m_r, l_r)
//
// A block of rows of the gradient is of queries, of targets or of labels, and is made from the rows on the other side:
// queries from targets and labels, targets from all queries, labels from the queries that are kept. Queries are taken in
// `order`, kept ones first, so that the others are passed over by the block.
// main: group (b, c) makes columns 64 c .. + 63 of block b of 32 rows, from 32 others at a time. Scores are made from slabs
// of 16 dimensions in group memory, invocation (i, j) of 8 x 8 has own rows 4 i .. + 3 and others 4 j .. + 3; the shares go
// to group memory, and invocation n adds own rows 8 (n / 16) .. + 7, columns 4 (n % 16) .. + 3.
// serial: an invocation makes a block of 16 rows from 32 others at a time.
// Parameters: kernels::contrastive_backward::Params.

struct Params {
    rows: u32,
    targets: u32,
    labels: u32,
    first_query: u32,
    dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// targets; from row first_query on queries, then labels: [.., dim]
@group(0) @binding(1) var<storage, read> vector: array<f32>;
@group(0) @binding(1) var<storage, read> vector4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> shift: array<f32>; // m and l of eq. 6, then of eq. 3: [2, rows, 2]
@group(0) @binding(3) var<storage, read> positive: array<u32>; // row, or 0xffffffff: [targets + labels]
@group(0) @binding(4) var<storage, read> order: array<u32>; // number of kept queries, then queries, kept ones first
@group(0) @binding(5) var<storage, read_write> dvector: array<f32>; // as vector
@group(0) @binding(5) var<storage, read_write> dvector4: array<vec4<f32>>;

const NOTHING = 1e30; // the shift that makes a share 0
const NO_KEY = 0xfffffffeu; // the key that none is like

// What a block is a part of, by the first block of each.
const QUERIES = 0u;
const TARGETS = 1u;
const LABELS = 2u;

struct Block {
    role: u32,
    first: u32, // of the queries in order, of the targets or of the labels
    end: u32, // of all of them
}

// Block b of blocks of `size` rows: those of queries come first, then targets, then labels.
fn block_of(b: u32, size: u32) -> Block {
    let queries = (params.rows + size - 1u) / size;
    let targets = (params.targets + size - 1u) / size;
    if b < queries {
        return Block(QUERIES, b * size, params.rows);
    }
    if b < queries + targets {
        return Block(TARGETS, (b - queries) * size, params.targets);
    }
    return Block(LABELS, (b - queries - targets) * size, params.labels);
}

// A row on either side. A query and a candidate with the same key are positive.
struct Row {
    at: u32, // in vector
    key: u32,
    m: f32, // the shift, 0 for candidates
    l: f32,
}

fn query(loss: u32, place: u32) -> Row {
    let row = order[1u + place];
    let at = 2u * (loss * params.rows + row);
    return Row(params.first_query + row, row, shift[at], shift[at + 1u]);
}

fn candidate(loss: u32, n: u32) -> Row {
    if loss == 0u {
        return Row(n, positive[n], 0.0, 0.0);
    }
    return Row(params.first_query + params.rows + n, positive[params.targets + n], 0.0, 0.0);
}

// Row n of the side of the block (own) or of the other.
fn row_of(queries: bool, loss: u32, n: u32, end: u32) -> Row {
    var row: Row;
    if queries {
        row = query(loss, min(n, end - 1u));
    } else {
        row = candidate(loss, min(n, end - 1u));
    }
    if n >= end {
        row.key = NO_KEY;
        row.l = NOTHING;
    }
    return row;
}

// How many rows a block is made from in a loss.
fn others(block: Block, loss: u32) -> u32 {
    if block.role != QUERIES {
        return select(params.rows, order[0], loss > 0u);
    }
    if loss == 0u {
        return params.targets;
    }
    return select(0u, params.labels, block.first < order[0]);
}

const TILE = 32u;
const SLAB = 16u;

var<workgroup> own_rows: array<Row, 32>;
var<workgroup> other_rows: array<Row, 32>;
var<workgroup> left: array<vec4<f32>, 128>; // own: [slab dimension, row / 4]
var<workgroup> right: array<vec4<f32>, 128>; // others: [slab dimension, row / 4]
var<workgroup> shares: array<vec4<f32>, 256>; // [other, own / 4]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let block = block_of(group.x, TILE);
    let i = invocation / 8u;
    let j = invocation % 8u;
    let out_four = 2u * (invocation / 16u); // own rows / 4
    let out_column = group.y * 64u + 4u * (invocation % 16u);
    var sums: array<vec4<f32>, 8>; // [own], columns in the vector
    for (var r = 0u; r < 8u; r++) {
        sums[r] = vec4<f32>(0.0);
    }
    for (var loss = select(0u, 1u, block.role == LABELS); loss < select(2u, 1u, block.role == TARGETS); loss++) {
        let end = others(block, loss);
        for (var start = 0u; start < end; start += TILE) {
            workgroupBarrier();
            if invocation < TILE {
                own_rows[invocation] = row_of(block.role == QUERIES, loss, block.first + invocation, block.end);
            } else {
                other_rows[invocation - TILE] = row_of(block.role != QUERIES, loss, start + invocation - TILE, end);
            }
            var scores: array<vec4<f32>, 4>; // [other 4 j + c], own in the vector
            for (var c = 0u; c < 4u; c++) {
                scores[c] = vec4<f32>(0.0);
            }
            for (var slab = 0u; slab < params.dim; slab += SLAB) {
                workgroupBarrier();
                for (var part = 0u; part < 2u; part++) {
                    let d = invocation % SLAB;
                    let four = invocation / SLAB + 4u * part;
                    var own = vec4<f32>(0.0);
                    var other = vec4<f32>(0.0);
                    if slab + d < params.dim {
                        for (var row = 0u; row < 4u; row++) {
                            own[row] = vector[own_rows[4u * four + row].at * params.dim + slab + d];
                            other[row] = vector[other_rows[4u * four + row].at * params.dim + slab + d];
                        }
                    }
                    left[d * 8u + four] = own;
                    right[d * 8u + four] = other;
                }
                workgroupBarrier();
                for (var d = 0u; d < SLAB; d++) {
                    let own = left[d * 8u + i];
                    let other = right[d * 8u + j];
                    for (var c = 0u; c < 4u; c++) {
                        scores[c] += own * other[c];
                    }
                }
            }
            for (var c = 0u; c < 4u; c++) {
                let other = other_rows[4u * j + c];
                var share = vec4<f32>(0.0);
                for (var r = 0u; r < 4u; r++) {
                    let own = own_rows[4u * i + r];
                    share[r] = exp(scores[c][r] * params.scale - (own.m + other.m) - (own.l + other.l))
                        - select(0.0, 1.0, own.key == other.key);
                }
                shares[(4u * j + c) * 8u + i] = share;
            }
            workgroupBarrier();
            let count = min(TILE, end - start);
            for (var n = 0u; n < count; n++) {
                let at = other_rows[n].at * params.dim + out_column;
                var value = vec4<f32>(0.0);
                for (var c = 0u; c < 4u; c++) {
                    if out_column + c < params.dim {
                        value[c] = vector[at + c];
                    }
                }
                for (var four = 0u; four < 2u; four++) {
                    let share = shares[n * 8u + out_four + four];
                    for (var r = 0u; r < 4u; r++) {
                        sums[4u * four + r] += share[r] * value;
                    }
                }
            }
        }
    }
    for (var r = 0u; r < 8u; r++) {
        let n = block.first + 4u * out_four + r;
        if n < block.end {
            let row = row_of(block.role == QUERIES, select(0u, 1u, block.role == LABELS), n, block.end).at;
            for (var c = 0u; c < 4u; c++) {
                if out_column + c < params.dim {
                    dvector[row * params.dim + out_column + c] = sums[r][c] * params.scale;
                }
            }
        }
    }
}


const OWN = 16u; // rows of an invocation
const OTHERS = 32u; // rows that it is made from at a time

@compute @workgroup_size(8)
fn serial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var block = block_of(group.x, 8u * OWN);
    block.first += lane * OWN;
    if block.first >= block.end {
        return;
    }
    let width = params.dim / 4u;
    var begun = false; // whether the gradient has its first terms
    for (var loss = select(0u, 1u, block.role == LABELS); loss < select(2u, 1u, block.role == TARGETS); loss++) {
        let end = others(block, loss);
        var own: array<Row, 16>;
        for (var r = 0u; r < OWN; r++) {
            own[r] = row_of(block.role == QUERIES, loss, block.first + r, block.end);
        }
        for (var start = 0u; start < end; start += OTHERS) {
            var other: array<Row, 32>;
            for (var c = 0u; c < OTHERS; c++) {
                other[c] = row_of(block.role != QUERIES, loss, start + c, end);
            }
            var shares: array<array<f32, 32>, 16>; // [own][other]
            for (var r = 0u; r < OWN; r++) {
                for (var c = 0u; c < OTHERS; c++) {
                    shares[r][c] = 0.0;
                }
            }
            for (var d = 0u; d < width; d++) {
                var mine: array<vec4<f32>, 16>;
                for (var r = 0u; r < OWN; r++) {
                    mine[r] = vector4[own[r].at * width + d];
                }
                for (var c = 0u; c < OTHERS; c++) {
                    let value = vector4[other[c].at * width + d];
                    for (var r = 0u; r < OWN; r++) {
                        shares[r][c] += dot(mine[r], value);
                    }
                }
            }
            for (var r = 0u; r < OWN; r++) {
                for (var c = 0u; c < OTHERS; c++) {
                    let exponent = shares[r][c] * params.scale - (own[r].m + other[c].m) - (own[r].l + other[c].l);
                    shares[r][c] = params.scale * (exp(exponent) - select(0.0, 1.0, own[r].key == other[c].key));
                }
            }
            for (var d = 0u; d < width; d++) {
                var sums: array<vec4<f32>, 16>; // [own]
                for (var r = 0u; r < OWN; r++) {
                    sums[r] = vec4<f32>(0.0);
                }
                for (var c = 0u; c < OTHERS; c++) {
                    let value = vector4[other[c].at * width + d];
                    for (var r = 0u; r < OWN; r++) {
                        sums[r] += shares[r][c] * value;
                    }
                }
                for (var r = 0u; r < OWN; r++) {
                    if block.first + r < block.end {
                        let at = own[r].at * width + d;
                        if begun {
                            sums[r] += dvector4[at];
                        }
                        dvector4[at] = sums[r];
                    }
                }
            }
            begun = true;
        }
    }
    if !begun {
        // Labels of which none is kept.
        for (var n = block.first; n < min(block.first + OWN, block.end); n++) {
            let row = row_of(false, 1u, n, block.end).at;
            for (var d = 0u; d < width; d++) {
                dvector4[row * width + d] = vec4<f32>(0.0);
            }
        }
    }
}
