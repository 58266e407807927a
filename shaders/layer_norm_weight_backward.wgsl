// dweight[d] = sum over rows of dy * (x - mean) * rstd, dbias[d] = sum over rows of dy; slice s sums its run of rows.
//
// Group (c, s) sums columns 64 c .. 64 c + 63 of slice s; four invocations share a column.
// Parameters: kernels::layer_norm_weight_backward::Params.

struct Params {
    rows: u32,
    dim: u32,
    slices: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, dim]
@group(0) @binding(2) var<storage, read> stats: array<f32>; // mean, rstd: [rows, 2]
@group(0) @binding(3) var<storage, read> dy: array<f32>; // [rows, dim]
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>; // [slices, stride], of which [2, dim]

const COLUMNS = 64u;
const LANES = 4u;

var<workgroup> weights: array<f32, 256>; // [lane, column]
var<workgroup> biases: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let column = group.x * COLUMNS + invocation % COLUMNS;
    let lane = invocation / COLUMNS;
    let slice = group.y;
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    var weight = 0.0;
    var bias = 0.0;
    if column < params.dim {
        for (var row = slice * each + lane; row < end; row += LANES) {
            let g = dy[row * params.dim + column];
            weight += g * (x[row * params.dim + column] - stats[row * 2u]) * stats[row * 2u + 1u];
            bias += g;
        }
    }
    weights[invocation] = weight;
    biases[invocation] = bias;
    workgroupBarrier();
    if lane == 0u && column < params.dim {
        for (var i = invocation + COLUMNS; i < COLUMNS * LANES; i += COLUMNS) {
            weight += weights[i];
            bias += biases[i];
        }
        gradient[slice * params.stride + column] = weight;
        gradient[slice * params.stride + params.dim + column] = bias;
    }
}
