// dx (+)= rstd * (g - mean(g) - x^ * mean(g * x^)), where g = dy * weight and x^ = (x - mean) * rstd;
// dweight[d] = sum over rows of dy * x^, dbias[d] = sum over rows of dy, where slice s sums its run of rows
//
// `main`: the first workgroups each sum 64 columns of a slice, four invocations a column; the others have sixteen rows,
// sixteen invocations a row. `serial`: a workgroup has 32 columns of a slice, an invocation every eighth of its rows, one
// after the other in registers, for both at once; only the sums meet in group memory, at the end.
// Parameters: kernels::layer_norm_backward::Params.

struct Params {
    rows: u32,
    dim: u32,
    accumulate: u32,
    slices: u32,
    stride: u32,
    accumulate_gradient: u32,
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
@group(0) @binding(7) var<uniform> x_uniform: array<vec4<f32>, 4096>; // the first of `x`
@group(0) @binding(8) var<uniform> norm_uniform: array<vec4<f32>, 4096>; // the first of `norm`
@group(0) @binding(9) var<uniform> dy_uniform: array<vec4<f32>, 4096>; // the first of `dy`

override x_from_uniform: bool = false; // whether x is all there
override norm_from_uniform: bool = false; // whether norm is
override dy_from_uniform: bool = false; // whether dy is

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
        let at = slice * params.stride + column;
        if params.accumulate_gradient == 1u {
            weight += gradient[at];
            bias += gradient[at + params.dim];
        }
        gradient[at] = weight;
        gradient[at + params.dim] = bias;
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

const OWN_LANES = 8u; // invocations of a workgroup of `serial`
const OWN_COLUMNS = 8u; // vectors of its columns

var<workgroup> partial: array<vec4<f32>, 128>; // [lane, dweight or dbias, vector]

fn x_vector(at: u32) -> vec4<f32> {
    if x_from_uniform {
        return x_uniform[at];
    }
    return x4[at];
}

fn norm_vector(at: u32) -> vec4<f32> {
    if norm_from_uniform {
        return norm_uniform[at];
    }
    return norm4[at];
}

fn dy_vector(at: u32) -> vec4<f32> {
    if dy_from_uniform {
        return dy_uniform[at];
    }
    return dy4[at];
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group.x + group.y * groups.x;
    let slice = at % params.slices;
    let vectors = params.dim / 4u;
    let first = at / params.slices * OWN_COLUMNS;
    if first >= vectors {
        return;
    }
    let own = min(OWN_COLUMNS, vectors - first);
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    var weights: array<vec4<f32>, OWN_COLUMNS>;
    var biases: array<vec4<f32>, OWN_COLUMNS>;
    for (var c = 0u; c < OWN_COLUMNS; c++) {
        weights[c] = vec4<f32>(0.0);
        biases[c] = vec4<f32>(0.0);
    }
    for (var row = slice * each + lane; row < end; row += OWN_LANES) {
        let mean = stats[row * 2u];
        let rstd = stats[row * 2u + 1u];
        var one = vec4<f32>(0.0);
        var along = vec4<f32>(0.0);
        // The columns of other workgroups.
        for (var other = 0u; other < vectors - own; other++) {
            let v = select(other + own, other, other < first);
            let g = dy_vector(row * vectors + v) * norm_vector(v);
            one += g;
            along += g * (x_vector(row * vectors + v) - mean) * rstd;
        }
        var scaled: array<vec4<f32>, OWN_COLUMNS>;
        var centred: array<vec4<f32>, OWN_COLUMNS>;
        for (var c = 0u; c < OWN_COLUMNS; c++) {
            if c < own {
                let g = dy_vector(row * vectors + first + c);
                centred[c] = (x_vector(row * vectors + first + c) - mean) * rstd;
                scaled[c] = g * norm_vector(first + c);
                weights[c] += g * centred[c];
                biases[c] += g;
                one += scaled[c];
                along += scaled[c] * centred[c];
            }
        }
        let mean_one = dot(one, vec4<f32>(1.0)) / f32(params.dim);
        let mean_along = dot(along, vec4<f32>(1.0)) / f32(params.dim);
        for (var c = 0u; c < OWN_COLUMNS; c++) {
            if c < own {
                var value = rstd * (scaled[c] - mean_one - centred[c] * mean_along);
                if params.accumulate == 1u {
                    value += dx4[row * vectors + first + c];
                }
                dx4[row * vectors + first + c] = value;
            }
        }
    }
    for (var c = 0u; c < OWN_COLUMNS; c++) {
        partial[lane * 2u * OWN_COLUMNS + c] = weights[c];
        partial[lane * 2u * OWN_COLUMNS + OWN_COLUMNS + c] = biases[c];
    }
    workgroupBarrier();
    for (var i = lane; i < 2u * own; i += OWN_LANES) {
        let kind = i / own;
        let c = i % own;
        var sum = vec4<f32>(0.0);
        for (var other = 0u; other < OWN_LANES; other++) {
            sum += partial[(other * 2u + kind) * OWN_COLUMNS + c];
        }
        let at = slice * params.stride / 4u + kind * vectors + first + c;
        if params.accumulate_gradient == 1u {
            sum += gradient4[at];
        }
        gradient4[at] = sum;
    }
}
