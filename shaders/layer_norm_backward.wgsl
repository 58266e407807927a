// dx (+)= rstd * (g - mean(g) - x^ * mean(g * x^)), where g = dy * weight and x^ = (x - mean) * rstd;
// dweight[d] = sum over rows of dy * x^, dbias[d] = sum over rows of dy, where slice s sums its run of rows
//
// Both read rows once, for dx and for the sums, so that a workgroup goes through the rows of a slice.
// `main`: it has a whole slice, 64, 32 or 16 rows of which at once: an invocation has four columns of four rows in
// registers, so that 16 invocations share a row of up to 64 columns, 32 up to 128, 64 up to 256. `serial`: a workgroup has
// 32 columns of a slice, an invocation every eighth of its rows, one after the other; only the sums meet in group memory,
// at the end.
// Parameters: kernels::layer_norm_backward::Params.

struct Params {
    rows: u32,
    dim: u32,
    accumulate: u32,
    slices: u32,
    stride: u32,
    accumulate_gradient: u32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<activation>; // [rows, dim]
@group(0) @binding(1) var<storage, read> x4: array<vec4<activation>>;
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

const ROWS = 4u; // of an invocation of `main` at once

// Of the rows at once: [row, lane], rows one more apart than there are lanes, to spread over the banks. At the end, of the
// columns: [lane of rows, column].
var<workgroup> partial_one: array<f32, 1088>; // of g; of dbias
var<workgroup> partial_x: array<f32, 1088>; // of g * x^; of dweight
var<workgroup> mean_one: array<f32, 64>; // of g, by row
var<workgroup> mean_x: array<f32, 64>; // of g * x^

// Invocations that share a row: four columns each.
fn row_lanes() -> u32 {
    return select(select(64u, 32u, params.dim <= 128u), 16u, params.dim <= 64u);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let slice = group.x + group.y * groups.x;
    if slice >= params.slices {
        return;
    }
    let dim = params.dim;
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    let lanes = row_lanes();
    let row_count = 256u / lanes; // rows that lie side by side in the workgroup
    let lane = invocation % lanes;
    let own = invocation / lanes; // which of those this is
    let columns = lane + lanes * vec4<u32>(0u, 1u, 2u, 3u);
    let inside = columns < vec4<u32>(dim);
    // Past the end, the last element is read again and counts nothing.
    let near = min(columns, vec4<u32>(dim - 1u));
    let weights = vec4<f32>(norm[near.x], norm[near.y], norm[near.z], norm[near.w]);

    var dweight = vec4<f32>(0.0);
    var dbias = vec4<f32>(0.0);
    for (var start = slice * each; start < end; start += ROWS * row_count) {
        var scaled: array<vec4<f32>, ROWS>;
        var centred: array<vec4<f32>, ROWS>;
        var rstd: array<f32, ROWS>;
        for (var i = 0u; i < ROWS; i++) {
            let row = start + i * row_count + own;
            let near_row = min(row, end - 1u);
            let at = near_row * dim + near;
            let keep = inside & vec4<bool>(row < end);
            let g = select(vec4<f32>(0.0), vec4<f32>(dy[at.x], dy[at.y], dy[at.z], dy[at.w]), keep);
            rstd[i] = stats[near_row * 2u + 1u];
            let values = vec4<f32>(f32(x[at.x]), f32(x[at.y]), f32(x[at.z]), f32(x[at.w]));
            centred[i] = (values - stats[near_row * 2u]) * rstd[i];
            scaled[i] = g * weights;
            dweight += g * centred[i];
            dbias += g;
            let place = (i * row_count + own) * (lanes + 1u) + lane;
            partial_one[place] = dot(scaled[i], vec4<f32>(1.0));
            partial_x[place] = dot(scaled[i], centred[i]);
        }
        workgroupBarrier();
        if invocation < ROWS * row_count {
            var one = 0.0;
            var along = 0.0;
            for (var i = 0u; i < lanes; i++) {
                one += partial_one[invocation * (lanes + 1u) + i];
                along += partial_x[invocation * (lanes + 1u) + i];
            }
            mean_one[invocation] = one / f32(dim);
            mean_x[invocation] = along / f32(dim);
        }
        workgroupBarrier();
        for (var i = 0u; i < ROWS; i++) {
            let place = i * row_count + own;
            let values = rstd[i] * (scaled[i] - mean_one[place] - centred[i] * mean_x[place]);
            for (var e = 0u; e < 4u; e++) {
                if inside[e] && start + place < end {
                    let at = (start + place) * dim + columns[e];
                    if params.accumulate == 1u {
                        dx[at] += values[e];
                    } else {
                        dx[at] = values[e];
                    }
                }
            }
        }
    }

    for (var e = 0u; e < 4u; e++) {
        partial_x[own * 4u * lanes + columns[e]] = dweight[e];
        partial_one[own * 4u * lanes + columns[e]] = dbias[e];
    }
    workgroupBarrier();
    if invocation < dim {
        var weight = 0.0;
        var bias = 0.0;
        for (var i = 0u; i < row_count; i++) {
            weight += partial_x[i * 4u * lanes + invocation];
            bias += partial_one[i * 4u * lanes + invocation];
        }
        let at = slice * params.stride + invocation;
        if params.accumulate_gradient == 1u {
            weight += gradient[at];
            bias += gradient[at + dim];
        }
        gradient[at] = weight;
        gradient[at + dim] = bias;
    }
}

const OWN_LANES = 8u; // invocations of a workgroup of `serial`
const OWN_COLUMNS = 8u; // vectors of its columns

var<workgroup> partial: array<vec4<f32>, 128>; // [lane, dweight or dbias, vector]

fn x_vector(at: u32) -> vec4<f32> {
    if x_from_uniform {
        return x_uniform[at];
    }
    return vec4<f32>(x4[at]);
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
