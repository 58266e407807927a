// dx (+)= rstd * (g - mean(g) - x^ * mean(g * x^)), where g = dy * weight and x^ = (x - mean) * rstd;
// dweight[d] = sum over rows of dy * x^, dbias[d] = sum over rows of dy, where slice s sums its run of rows
//
// The first workgroups sum columns of a slice, the others have rows. `main`: a workgroup sums 64 columns, four invocations
// a column; or has sixteen rows, sixteen invocations a row. `serial`: an invocation sums sixteen columns, or has four rows.
// Parameters: kernels::layer_norm_backward::Params.

struct Params {
    rows: u32,
    dim: u32,
    accumulate: u32,
    slices: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, dim]
@group(0) @binding(1) var<storage, read> x4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norm: array<f32>; // weight, then bias: [2, dim]
@group(0) @binding(2) var<storage, read> norm4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> stats: array<f32>; // mean, rstd: [rows, 2]
@group(0) @binding(4) var<storage, read> dy: array<f32>; // [rows, dim]
@group(0) @binding(4) var<storage, read> dy4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // [rows, dim]
@group(0) @binding(5) var<storage, read_write> dx4: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> gradient: array<f32>; // [slices, stride], of which [2, dim]
@group(0) @binding(6) var<storage, read_write> gradient4: array<vec4<f32>>;

const ROW_LANES = 16u;
const COLUMNS = 64u;
const COLUMN_LANES = 4u;

var<workgroup> partial_one: array<f32, 256>; // of g: [row of the group, lane]; of dbias: [lane, column]
var<workgroup> partial_x: array<f32, 256>; // of g * x^; of dweight

// Columns COLUMNS * block .. of a slice.
fn sum_columns(block: u32, slice: u32, invocation: u32) {
    let column = block * COLUMNS + invocation % COLUMNS;
    let lane = invocation / COLUMNS;
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    var weight = 0.0;
    var bias = 0.0;
    if column < params.dim {
        for (var row = slice * each + lane; row < end; row += COLUMN_LANES) {
            let g = dy[row * params.dim + column];
            weight += g * (x[row * params.dim + column] - stats[row * 2u]) * stats[row * 2u + 1u];
            bias += g;
        }
    }
    partial_x[invocation] = weight;
    partial_one[invocation] = bias;
    workgroupBarrier();
    if lane == 0u && column < params.dim {
        for (var i = invocation + COLUMNS; i < COLUMNS * COLUMN_LANES; i += COLUMNS) {
            weight += partial_x[i];
            bias += partial_one[i];
        }
        gradient[slice * params.stride + column] = weight;
        gradient[slice * params.stride + params.dim + column] = bias;
    }
}

// Rows 16 * block ..
fn go_through_rows(block: u32, invocation: u32) {
    let row = block * 16u + invocation / ROW_LANES;
    let lane = invocation % ROW_LANES;
    let first = invocation - lane;
    let inside = row < params.rows;
    let base = row * params.dim;

    var mean = 0.0;
    var rstd = 0.0;
    var one = 0.0;
    var along = 0.0;
    if inside {
        mean = stats[row * 2u];
        rstd = stats[row * 2u + 1u];
        for (var d = lane; d < params.dim; d += ROW_LANES) {
            let g = dy[base + d] * norm[d];
            one += g;
            along += g * (x[base + d] - mean) * rstd;
        }
    }
    partial_one[invocation] = one;
    partial_x[invocation] = along;
    workgroupBarrier();
    if !inside {
        return;
    }
    one = 0.0;
    along = 0.0;
    for (var i = first; i < first + ROW_LANES; i++) {
        one += partial_one[i];
        along += partial_x[i];
    }
    one /= f32(params.dim);
    along /= f32(params.dim);
    for (var d = lane; d < params.dim; d += ROW_LANES) {
        let centred = (x[base + d] - mean) * rstd;
        let value = rstd * (dy[base + d] * norm[d] - one - centred * along);
        if params.accumulate == 1u {
            dx[base + d] += value;
        } else {
            dx[base + d] = value;
        }
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let at = group.x + group.y * groups.x;
    let blocks = (params.dim + COLUMNS - 1u) / COLUMNS;
    if at < blocks * params.slices {
        sum_columns(at % blocks, at / blocks, invocation);
    } else {
        go_through_rows(at - blocks * params.slices, invocation);
    }
}

const OWN_COLUMNS = 4u; // vectors that an invocation of `serial` sums
const OWN_ROWS = 4u; // or its rows

// Vectors OWN_COLUMNS * (block % blocks) .. of slice block / blocks.
fn sum_own_columns(block: u32, blocks: u32) {
    let vectors = params.dim / 4u;
    let first = block % blocks * OWN_COLUMNS;
    let slice = block / blocks;
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    var weight: array<vec4<f32>, OWN_COLUMNS>;
    var bias: array<vec4<f32>, OWN_COLUMNS>;
    for (var c = 0u; c < OWN_COLUMNS; c++) {
        weight[c] = vec4<f32>(0.0);
        bias[c] = vec4<f32>(0.0);
    }
    for (var row = slice * each; row < end; row++) {
        let mean = stats[row * 2u];
        let rstd = stats[row * 2u + 1u];
        for (var c = 0u; c < OWN_COLUMNS; c++) {
            // A vector past the last is summed as that, and not written.
            let at = row * vectors + min(first + c, vectors - 1u);
            let g = dy4[at];
            weight[c] += g * (x4[at] - mean) * rstd;
            bias[c] += g;
        }
    }
    for (var c = 0u; c < OWN_COLUMNS; c++) {
        if first + c < vectors {
            gradient4[slice * params.stride / 4u + first + c] = weight[c];
            gradient4[slice * params.stride / 4u + vectors + first + c] = bias[c];
        }
    }
}

fn go_through_own_rows(first: u32) {
    let vectors = params.dim / 4u;
    let count = f32(params.dim);
    var at: array<u32, OWN_ROWS>; // of a row in `x4`
    var mean: array<f32, OWN_ROWS>;
    var rstd: array<f32, OWN_ROWS>;
    var ones: array<vec4<f32>, OWN_ROWS>;
    var alongs: array<vec4<f32>, OWN_ROWS>;
    for (var r = 0u; r < OWN_ROWS; r++) {
        let row = min(first + r, params.rows - 1u);
        at[r] = row * vectors;
        mean[r] = stats[row * 2u];
        rstd[r] = stats[row * 2u + 1u];
        ones[r] = vec4<f32>(0.0);
        alongs[r] = vec4<f32>(0.0);
    }
    for (var v = 0u; v < vectors; v++) {
        let weight = norm4[v];
        for (var r = 0u; r < OWN_ROWS; r++) {
            let g = dy4[at[r] + v] * weight;
            ones[r] += g;
            alongs[r] += g * (x4[at[r] + v] - mean[r]);
        }
    }
    var one: array<f32, OWN_ROWS>;
    var along: array<f32, OWN_ROWS>;
    for (var r = 0u; r < OWN_ROWS; r++) {
        one[r] = dot(ones[r], vec4<f32>(1.0)) / count;
        along[r] = dot(alongs[r], vec4<f32>(1.0)) * rstd[r] * rstd[r] / count;
    }
    for (var v = 0u; v < vectors; v++) {
        let weight = norm4[v];
        for (var r = 0u; r < OWN_ROWS; r++) {
            if first + r < params.rows {
                let centred = x4[at[r] + v] - mean[r];
                var value = rstd[r] * (dy4[at[r] + v] * weight - one[r] - centred * along[r]);
                if params.accumulate == 1u {
                    value += dx4[at[r] + v];
                }
                dx4[at[r] + v] = value;
            }
        }
    }
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group.x + group.y * groups.x;
    let blocks = (params.dim / 4u + OWN_COLUMNS - 1u) / OWN_COLUMNS;
    let sums = (blocks * params.slices + 7u) / 8u; // workgroups that sum
    if at < sums {
        if at * 8u + lane < blocks * params.slices {
            sum_own_columns(at * 8u + lane, blocks);
        }
    } else {
        let first = ((at - sums) * 8u + lane) * OWN_ROWS;
        if first < params.rows {
            go_through_own_rows(first);
        }
    }
}
