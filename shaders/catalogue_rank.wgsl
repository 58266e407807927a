// rank[s] += number of items i of the group's share with max over k of phi_sk . H_i >= truth_score_s (or not a number),
// other than the truth and the known items of s
//
// Group (q, c) meets the 32 / K sequences q (32 / K) .. with items 1024 c .. + 1023, 32 at a time: scores of 32 rows of
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
@group(0) @binding(2) var<storage, read> table: array<f32>; // [items, dim]
@group(0) @binding(3) var<storage, read> truth: array<u32>; // [sequences]
@group(0) @binding(4) var<storage, read> truth_score: array<f32>; // [sequences]
@group(0) @binding(5) var<storage, read> known_offsets: array<u32>; // [sequences + 1]
@group(0) @binding(6) var<storage, read> known: array<u32>; // ascending within a sequence
@group(0) @binding(7) var<storage, read_write> rank: array<atomic<u32>>; // [sequences]

const TILE = 32u;
const SLAB = 16u;
const ITEMS_A_GROUP = 1024u;

var<workgroup> left: array<f32, 512>; // phi: [slab dimension, row]
var<workgroup> right: array<f32, 512>; // items: [slab dimension, item]
var<workgroup> scores: array<f32, 1024>; // [row, item]
var<workgroup> counts: array<atomic<u32>, 32>; // by sequence of the group; whole numbers have no order

fn is_known(sequence: u32, item: u32) -> bool {
    var low = known_offsets[sequence];
    var high = known_offsets[sequence + 1u];
    let end = high;
    while low < high {
        let middle = (low + high) / 2u;
        if known[middle] < item {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low < end && known[low] == item;
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
                if !(best < truth_score[first + s]) && !is_known(first + s, item) {
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
