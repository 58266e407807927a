// dquery_r = scale * sum over both losses and their candidates n of share_rn candidate_n
// dcandidate_n = scale * sum over r of share_rn query_r
// share_rn = exp(scale * query_r . candidate_n - m_r - l_r) - [r = positive_n], with the loss's shift (m_r, l_r)
//
// A block of rows of the gradient is of queries, of targets or of labels, and is made from the rows on the other side:
// queries from targets and labels, targets from all queries, labels from the queries that are kept. Queries are taken in
// `order`, kept ones first, so that the others are passed over by the block.
// main: group (x, y, c) makes columns 64 c .. + 63 of a block of 32 rows, from 32 others at a time. Scores are made from slabs
// of 16 dimensions in group memory, where those of own rows stay if there are no more than four: invocation (i, j) of 8 x 8
// has own rows 4 i .. + 3 and others 4 j .. + 3. The shares go to group memory, and invocation n adds own rows
// 8 (n / 16) .. + 7, columns 4 (n % 16) .. + 3.
// serial: an invocation makes 8 rows of `dquery` from twice 32 rows of `candidate` at a time, in one loss. With
// `of_candidates`, the two change places: `query` holds candidates, which are made from queries.
// Parameters: kernels::contrastive_backward::Params.

struct Params {
    rows: u32,
    targets: u32,
    labels: u32,
    dim: u32,
    scale: f32,
    loss: u32,
    of_candidates: u32,
    own: u32,
    first_own: u32,
    others: u32,
    first_other: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> candidate: array<f32>; // targets: [targets, dim]
@group(0) @binding(2) var<storage, read> query: array<f32>; // queries, then labels: [rows + labels, dim]
@group(0) @binding(3) var<storage, read> shift: array<f32>; // m and l of eq. 6, then of eq. 3: [2, rows, 2]
@group(0) @binding(4) var<storage, read> positive: array<u32>; // row, or 0xffffffff: [targets + labels]
@group(0) @binding(5) var<storage, read> order: array<u32>; // number of kept queries, then queries, kept ones first
@group(0) @binding(6) var<storage, read_write> dcandidate: array<f32>; // as candidate
@group(0) @binding(7) var<storage, read_write> dquery: array<f32>; // as query
@group(0) @binding(1) var<storage, read> candidate4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> query4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dquery4: array<vec4<f32>>;
@group(0) @binding(8) var<uniform> candidate_uniform: array<vec4<f32>, 4096>; // the first of `candidate`
@group(0) @binding(9) var<uniform> query_uniform: array<vec4<f32>, 4096>; // the first of `query`

override candidate_from_uniform: bool = false; // whether all others are there
override query_from_uniform: bool = false; // whether all own ones are

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
    at: u32, // in `candidate` or `query`
    key: u32,
    m: f32, // the shift, 0 for candidates
    l: f32,
}

fn query_row(loss: u32, row: u32) -> Row {
    let at = 2u * (loss * params.rows + row);
    return Row(row, row, shift[at], shift[at + 1u]);
}

fn candidate_row(loss: u32, n: u32) -> Row {
    if loss == 0u {
        return Row(n, positive[n], 0.0, 0.0);
    }
    return Row(params.rows + n, positive[params.targets + n], 0.0, 0.0);
}

// Row n of the side of the block (own) or of the other.
fn row_of(queries: bool, loss: u32, n: u32, end: u32) -> Row {
    var row: Row;
    if queries {
        row = query_row(loss, order[1u + min(n, end - 1u)]);
    } else {
        row = candidate_row(loss, min(n, end - 1u));
    }
    if n >= end {
        row.key = NO_KEY;
        row.l = NOTHING;
    }
    return row;
}

// An element of a row, which is one of the targets or one of the queries and labels.
fn element(of_target: bool, at: u32) -> f32 {
    if of_target {
        return candidate[at];
    }
    return query[at];
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
const HELD = 64u; // dimensions of the own rows that stay in group memory

var<workgroup> own_rows: array<Row, 32>;
var<workgroup> other_rows: array<Row, 32>;
var<workgroup> left: array<vec4<f32>, 512>; // own: [dimension % HELD, row / 4]
var<workgroup> right: array<vec4<f32>, 128>; // others: [slab dimension, row / 4]
var<workgroup> shares: array<vec4<f32>, 256>; // [other, own / 4]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let block = block_of(group.x + group.y * groups.x, TILE);
    if block.first >= block.end {
        return;
    }
    let i = invocation / 8u;
    let j = invocation % 8u;
    let out_four = 2u * (invocation / 16u); // own rows / 4
    let out_column = group.z * 64u + 4u * (invocation % 16u);
    var sums: array<vec4<f32>, 8>; // [own], columns in the vector
    for (var r = 0u; r < 8u; r++) {
        sums[r] = vec4<f32>(0.0);
    }
    var held = false; // whether own rows are in group memory, all of them
    for (var loss = select(0u, 1u, block.role == LABELS); loss < select(2u, 1u, block.role == TARGETS); loss++) {
        let end = others(block, loss);
        let from_targets = block.role == QUERIES && loss == 0u;
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
                            let other_at = other_rows[4u * four + row].at * params.dim;
                            other[row] = element(from_targets, other_at + slab + d);
                            if !held {
                                let own_at = own_rows[4u * four + row].at * params.dim;
                                own[row] = element(block.role == TARGETS, own_at + slab + d);
                            }
                        }
                    }
                    if !held {
                        left[(slab % HELD + d) * 8u + four] = own;
                    }
                    right[d * 8u + four] = other;
                }
                workgroupBarrier();
                for (var d = 0u; d < SLAB; d++) {
                    let own = left[(slab % HELD + d) * 8u + i];
                    let other = right[d * 8u + j];
                    for (var c = 0u; c < 4u; c++) {
                        scores[c] += own * other[c];
                    }
                }
            }
            held = params.dim <= HELD;
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
                        value[c] = element(from_targets, at + c);
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
                    let at = row * params.dim + out_column + c;
                    let gradient = sums[r][c] * params.scale;
                    if block.role == TARGETS {
                        dcandidate[at] = gradient;
                    } else {
                        dquery[at] = gradient;
                    }
                }
            }
        }
    }
}

// The first of the kept queries' places whose row is not before `row`: kept rows are in order.
fn kept_place(row: u32) -> u32 {
    var low = 0u;
    var high = order[0];
    while low < high {
        let middle = (low + high) / 2u;
        if order[1u + middle] < row {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

// Queries of a call: rows begin .. end, or in eq. 3 places begin .. end of the kept ones; `first` is the first in its binding.
struct Queries {
    begin: u32,
    end: u32,
    first: u32,
}

fn queries_from(first: u32, count: u32) -> Queries {
    if params.loss == 0u {
        return Queries(first, first + count, first);
    }
    return Queries(kept_place(first), kept_place(first + count), first);
}

// Query n, or a row that has no share in anything.
fn serial_query(queries: Queries, n: u32) -> Row {
    let place = min(queries.begin + n, queries.end - 1u);
    var at = place;
    if params.loss > 0u {
        at = order[1u + place];
    }
    var row = query_row(params.loss, at);
    row.at -= queries.first;
    if queries.begin + n >= queries.end {
        row.key = NO_KEY;
        row.l = NOTHING;
    }
    return row;
}

// Candidate n of a call, the same.
fn serial_candidate(first: u32, count: u32, n: u32) -> Row {
    let at = min(n, count - 1u);
    if n >= count {
        return Row(at, NO_KEY, 0.0, NOTHING);
    }
    return Row(at, positive[params.loss * params.targets + first + at], 0.0, 0.0);
}

fn own_vector(at: u32) -> vec4<f32> {
    if query_from_uniform {
        return query_uniform[at];
    }
    return query4[at];
}

fn other_vector(at: u32) -> vec4<f32> {
    if candidate_from_uniform {
        return candidate_uniform[at];
    }
    return candidate4[at];
}

const OWN = 8u; // rows of an invocation
const OTHERS = 32u; // of a block of scores

// The others of a block: candidates, or queries.
fn others_from(start: u32, queries: Queries) -> array<Row, 32> {
    var rows: array<Row, 32>;
    for (var c = 0u; c < OTHERS; c++) {
        if params.of_candidates == 1u {
            rows[c] = serial_query(queries, start + c);
        } else {
            rows[c] = serial_candidate(params.first_other, params.others, start + c);
        }
    }
    return rows;
}

// Of each other in each own row, times the scale.
fn shares_of(own: array<Row, 8>, other: array<Row, 32>) -> array<array<f32, 32>, 8> {
    var result: array<array<f32, 32>, 8>;
    for (var r = 0u; r < OWN; r++) {
        for (var c = 0u; c < OTHERS; c++) {
            result[r][c] = 0.0;
        }
    }
    let width = params.dim / 4u;
    for (var d = 0u; d < width; d++) {
        var mine: array<vec4<f32>, 8>;
        for (var r = 0u; r < OWN; r++) {
            mine[r] = own_vector(own[r].at * width + d);
        }
        for (var c = 0u; c < OTHERS; c++) {
            let value = other_vector(other[c].at * width + d);
            for (var r = 0u; r < OWN; r++) {
                result[r][c] += dot(mine[r], value);
            }
        }
    }
    for (var r = 0u; r < OWN; r++) {
        for (var c = 0u; c < OTHERS; c++) {
            let exponent = result[r][c] * params.scale - (own[r].m + other[c].m) - (own[r].l + other[c].l);
            result[r][c] = params.scale * (exp(exponent) - select(0.0, 1.0, own[r].key == other[c].key));
        }
    }
    return result;
}

// Sums over two blocks of others are added to memory a vector at a time: most of the time is spent there.
@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let of_candidates = params.of_candidates == 1u;
    let first = ((group.x + group.y * groups.x) * 8u + lane) * OWN;
    var queries: Queries;
    if of_candidates {
        queries = queries_from(params.first_other, params.others);
    } else {
        queries = queries_from(params.first_own, params.own);
    }
    let query_count = queries.end - queries.begin;
    let own_count = select(query_count, params.own, of_candidates);
    let other_count = select(params.others, query_count, of_candidates);
    if first >= own_count {
        return;
    }
    let width = params.dim / 4u;
    var own: array<Row, 8>;
    for (var r = 0u; r < OWN; r++) {
        if of_candidates {
            own[r] = serial_candidate(params.first_own, params.own, first + r);
        } else {
            own[r] = serial_query(queries, first + r);
        }
    }
    var begun = params.accumulate == 1u; // whether the gradient has its first terms
    for (var start = 0u; start < other_count; start += 2u * OTHERS) {
        let near = others_from(start, queries);
        let far = others_from(start + OTHERS, queries);
        let near_shares = shares_of(own, near);
        let far_shares = shares_of(own, far);
        for (var d = 0u; d < width; d++) {
            var sums: array<vec4<f32>, 8>; // [own]
            for (var r = 0u; r < OWN; r++) {
                sums[r] = vec4<f32>(0.0);
            }
            for (var c = 0u; c < OTHERS; c++) {
                let value = other_vector(near[c].at * width + d);
                for (var r = 0u; r < OWN; r++) {
                    sums[r] += near_shares[r][c] * value;
                }
            }
            for (var c = 0u; c < OTHERS; c++) {
                let value = other_vector(far[c].at * width + d);
                for (var r = 0u; r < OWN; r++) {
                    sums[r] += far_shares[r][c] * value;
                }
            }
            for (var r = 0u; r < OWN; r++) {
                if first + r < own_count {
                    let at = own[r].at * width + d;
                    if begun {
                        sums[r] += dquery4[at];
                    }
                    dquery4[at] = sums[r];
                }
            }
        }
        begun = true;
    }
    if !begun {
        // Made from nothing: labels of which no query is kept.
        for (var r = 0u; r < OWN; r++) {
            if first + r < own_count {
                for (var d = 0u; d < width; d++) {
                    dquery4[own[r].at * width + d] = vec4<f32>(0.0);
                }
            }
        }
    }
}
