// rank[s] += number of items i of the group's share with max over k of phi_sk . H_i + bias_i >= truth_score_s (or not a number),
// other than the truth and the known items of s
//
// main: group (q, c) meets the 32 / K sequences q (32 / K) .. with items 1024 c .. + 1023, 32 at a time: scores of 32 rows of
// phi (sequence, k) with 32 items are made from slabs of 16 dimensions in group memory, an invocation 4 x 4 of them; then
// pairs (sequence, item) are judged, one after the other by each invocation. Parameters: kernels::catalogue_rank::Params.

struct Params {
    sequences: u32,
    items: u32,
    dim: u32,
    intentions: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> phi: array<f32>; // [sequences, intentions, dim]
@group(0) @binding(1) var<storage, read> phi4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> table: array<f32>; // [items, dim]
@group(0) @binding(2) var<storage, read> table4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [items]
@group(0) @binding(4) var<storage, read> truth: array<u32>; // [sequences]
@group(0) @binding(5) var<storage, read> truth_score: array<f32>; // [sequences]
@group(0) @binding(6) var<storage, read> known_offsets: array<u32>; // [sequences + 1]
@group(0) @binding(7) var<storage, read> known: array<u32>; // ascending within a sequence
@group(0) @binding(8) var<storage, read_write> rank: array<atomic<u32>>; // [sequences]

const TILE = 32u;
const SLAB = 16u;
const ITEMS_A_GROUP = 1024u;

var<workgroup> left: array<f32, 512>; // phi: [slab dimension, row]
var<workgroup> right: array<f32, 512>; // items: [slab dimension, item]
var<workgroup> scores: array<f32, 1024>; // [row, item]
var<workgroup> counts: array<atomic<u32>, 32>; // by sequence of the group; whole numbers have no order

// The place of the first known item of a sequence that is not below `item`, or the end of them.
fn known_from(sequence: u32, item: u32) -> u32 {
    var low = known_offsets[sequence];
    var high = known_offsets[sequence + 1u];
    while low < high {
        let middle = (low + high) / 2u;
        if known[middle] < item {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

fn is_known(sequence: u32, item: u32) -> bool {
    let at = known_from(sequence, item);
    return at < known_offsets[sequence + 1u] && known[at] == item;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let together = TILE / params.intentions; // sequences of a group
    let first = group.x * together;
    let sequences = min(together, params.sequences - first);
    let rows = sequences * params.intentions;
    let begin = group.y * ITEMS_A_GROUP;
    let end = min(begin + ITEMS_A_GROUP, params.items);
    let i = invocation / 8u;
    let j = invocation % 8u;
    if invocation < TILE {
        atomicStore(&counts[invocation], 0u);
    }
    for (var start = begin; start < end; start += TILE) {
        var sums: array<vec4<f32>, 4>; // [item 4 j + c], rows 4 i .. + 3 in the vector
        for (var c = 0u; c < 4u; c++) {
            sums[c] = vec4<f32>(0.0);
        }
        for (var slab = 0u; slab < params.dim; slab += SLAB) {
            workgroupBarrier();
            for (var part = 0u; part < 8u; part++) {
                let e = invocation + 64u * part;
                let row = e / SLAB;
                let d = slab + e % SLAB;
                var q = 0.0;
                var n = 0.0;
                if d < params.dim {
                    if row < rows {
                        q = phi[(first * params.intentions + row) * params.dim + d];
                    }
                    if start + row < end {
                        n = table[(start + row) * params.dim + d];
                    }
                }
                left[e % SLAB * TILE + row] = q;
                right[e % SLAB * TILE + row] = n;
            }
            workgroupBarrier();
            for (var d = 0u; d < SLAB; d++) {
                let at = d * TILE + 4u * i;
                let q = vec4<f32>(left[at], left[at + 1u], left[at + 2u], left[at + 3u]);
                for (var c = 0u; c < 4u; c++) {
                    sums[c] += q * right[d * TILE + 4u * j + c];
                }
            }
        }
        for (var c = 0u; c < 4u; c++) {
            for (var r = 0u; r < 4u; r++) {
                scores[(4u * i + r) * TILE + 4u * j + c] = sums[c][r];
            }
        }
        workgroupBarrier();
        for (var pair = invocation; pair < sequences * TILE; pair += 64u) {
            let s = pair / TILE;
            let item = start + pair % TILE;
            if item < end && item != truth[first + s] {
                var best = scores[s * params.intentions * TILE + pair % TILE];
                for (var k = 1u; k < params.intentions; k++) {
                    let score = scores[(s * params.intentions + k) * TILE + pair % TILE];
                    best = select(best, score, score > best);
                }
                if !(best + bias[item] < truth_score[first + s]) && !is_known(first + s, item) {
                    atomicAdd(&counts[s], 1u);
                }
            }
        }
    }
    workgroupBarrier();
    if invocation < sequences {
        atomicAdd(&rank[first + invocation], atomicLoad(&counts[invocation]));
    }
}

const SEQUENCES = 16u; // of an invocation
const ITEMS = 32u; // of a block of scores, and bits of a word

@compute @workgroup_size(8)
fn serial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * SEQUENCES;
    let end = min((group.y + 1u) * ITEMS_A_GROUP, params.items);
    let width = params.dim / 4u;
    var bar: array<f32, 16>;
    var count: array<u32, 16>;
    for (var s = 0u; s < SEQUENCES; s++) {
        bar[s] = truth_score[min(first + s, params.sequences - 1u)];
        count[s] = 0u;
    }
    for (var start = group.y * ITEMS_A_GROUP + lane * ITEMS; start < end; start += 8u * ITEMS) {
        var best: array<array<f32, 32>, 16>;
        for (var k = 0u; k < params.intentions; k++) {
            var scores: array<array<f32, 32>, 16>;
            for (var s = 0u; s < SEQUENCES; s++) {
                for (var i = 0u; i < ITEMS; i++) {
                    scores[s][i] = 0.0;
                }
            }
            for (var d = 0u; d < width; d++) {
                var query: array<vec4<f32>, 16>;
                for (var s = 0u; s < SEQUENCES; s++) {
                    let row = min(first + s, params.sequences - 1u) * params.intentions + k;
                    query[s] = phi4[row * width + d];
                }
                for (var i = 0u; i < ITEMS; i++) {
                    let h = table4[min(start + i, params.items - 1u) * width + d];
                    for (var s = 0u; s < SEQUENCES; s++) {
                        scores[s][i] += dot(query[s], h);
                    }
                }
            }
            for (var s = 0u; s < SEQUENCES; s++) {
                for (var i = 0u; i < ITEMS; i++) {
                    best[s][i] = select(best[s][i], scores[s][i], k == 0u || scores[s][i] > best[s][i]);
                }
            }
        }
        for (var i = 0u; i < ITEMS; i++) {
            let own = bias[min(start + i, params.items - 1u)];
            for (var s = 0u; s < SEQUENCES; s++) {
                best[s][i] += own;
            }
        }
        var out: array<u32, 16>; // of each sequence, items that do not compete: a bit an item
        for (var s = 0u; s < min(SEQUENCES, params.sequences - first); s++) {
            let own = truth[first + s] - start;
            var bits = select(0u, 1u << (own & 31u), own < ITEMS);
            let known_end = known_offsets[first + s + 1u];
            for (var at = known_from(first + s, start); at < known_end && known[at] < start + ITEMS; at++) {
                bits |= 1u << (known[at] - start);
            }
            out[s] = bits;
        }
        for (var s = 0u; s < SEQUENCES; s++) {
            var ahead = 0u;
            for (var i = 0u; i < ITEMS; i++) {
                ahead |= select(0u, 1u << i, !(best[s][i] < bar[s]) && start + i < end);
            }
            count[s] += countOneBits(ahead & ~out[s]);
        }
    }
    for (var s = 0u; s < SEQUENCES; s++) {
        if first + s < params.sequences && count[s] > 0u {
            atomicAdd(&rank[first + s], count[s]);
        }
    }
}
