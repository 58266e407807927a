// Eq. 6 of every example b: the denominator exp(m_b + l_b), the sum of its K rows' own; loss_b = sum over its own targets n
// of m_b + l_b - max over k of scale * phi_bk . target_n. Marks the best row of each target, and leaves the shift that
// makes shares of the rows: l_b less the logarithm of how often b's denominator is in the loss.
// Eq. 3 of every row r: loss_r = m_r + l_r - scale * phi_r . label_r
//
// One invocation an example, then one a row. Parameters: kernels::contrastive_loss::Params.

struct Params {
    examples: u32,
    intentions: u32,
    labels: u32,
    first_query: u32,
    dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// targets; from row first_query on queries [examples, intentions], then labels: [.., dim]
@group(0) @binding(1) var<storage, read> vector: array<f32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>; // own targets, [examples + 1]
@group(0) @binding(3) var<storage, read> normaliser: array<f32>; // m and l of eq. 6, then of eq. 3: [2, rows, 2]
@group(0) @binding(4) var<storage, read_write> item_loss: array<f32>; // [examples]
@group(0) @binding(5) var<storage, read_write> label_loss: array<f32>; // [labels]
@group(0) @binding(6) var<storage, read_write> shift: array<f32>; // of eq. 6, [rows, 2]
@group(0) @binding(7) var<storage, read_write> positive: array<u32>; // of the targets

const NOTHING = 1e30; // the shift that makes a share 0

fn score(a: u32, b: u32) -> f32 {
    var product = 0.0;
    for (var d = 0u; d < params.dim; d++) {
        product += vector[a * params.dim + d] * vector[b * params.dim + d];
    }
    return product * params.scale;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = (group.x + group.y * groups.x) * 64u + lane;
    let rows = params.examples * params.intentions;
    if b >= params.examples {
        let row = b - params.examples;
        if row < params.labels {
            let own = score(params.first_query + row, params.first_query + rows + row);
            label_loss[row] = normaliser[2u * (rows + row) + 1u] + (normaliser[2u * (rows + row)] - own);
        }
        return;
    }
    let first = b * params.intentions;
    let end = first + params.intentions;
    var peak = normaliser[2u * first];
    for (var row = first + 1u; row < end; row++) {
        peak = max(peak, normaliser[2u * row]);
    }
    var sum = 0.0;
    for (var row = first; row < end; row++) {
        sum += exp(normaliser[2u * row] - peak + normaliser[2u * row + 1u]);
    }
    let log_sum = log(sum);
    let own = offsets[b];
    let own_end = offsets[b + 1u];
    var total = 0.0;
    for (var n = own; n < own_end; n++) {
        var best = 0.0;
        var best_row = first;
        for (var row = first; row < end; row++) {
            let value = score(params.first_query + row, n);
            if row == first || value > best {
                best = value;
                best_row = row;
            }
        }
        positive[n] = best_row;
        total += log_sum + (peak - best);
    }
    item_loss[b] = total;
    let count = own_end - own;
    for (var row = first; row < end; row++) {
        shift[2u * row] = peak;
        // The logarithm of 1 need not be exact.
        shift[2u * row + 1u] = select(select(log_sum - log(f32(count)), log_sum, count == 1u), NOTHING, count == 0u);
    }
}
