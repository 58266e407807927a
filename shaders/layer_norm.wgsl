// y = (x - mean) / sqrt(variance + 1e-5) * weight + bias over each row of [rows, dim]; keeps mean and 1 / sqrt(...).
//
// Sixteen invocations share a row, a workgroup has sixteen rows. Parameters: kernels::layer_norm::Params.

struct Params {
    rows: u32,
    dim: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, dim]
@group(0) @binding(2) var<storage, read> norm: array<f32>; // weight, then bias: [2, dim]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [rows, dim]
@group(0) @binding(4) var<storage, read_write> stats: array<f32>; // [rows, 2]

const EPSILON = 1e-5;
const LANES = 16u;

var<workgroup> partial: array<f32, 256>; // [row of the group, lane]

// The sum of a row's sixteen partial sums, in order.
fn row_sum(first: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < LANES; i++) {
        sum += partial[first + i];
    }
    return sum;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let row = (group.x + group.y * groups.x) * 16u + invocation / LANES;
    let lane = invocation % LANES;
    let first = invocation - lane; // of this row in `partial`
    let inside = row < params.rows;
    let base = row * params.dim;
    let count = f32(params.dim);

    var sum = 0.0;
    if inside {
        for (var d = lane; d < params.dim; d += LANES) {
            sum += x[base + d];
        }
    }
    partial[invocation] = sum;
    workgroupBarrier();
    let mean = row_sum(first) / count;
    workgroupBarrier();

    var squares = 0.0;
    if inside {
        for (var d = lane; d < params.dim; d += LANES) {
            let centred = x[base + d] - mean;
            squares += centred * centred;
        }
    }
    partial[invocation] = squares;
    workgroupBarrier();
    let rstd = 1.0 / sqrt(row_sum(first) / count + EPSILON);

    if inside {
        for (var d = lane; d < params.dim; d += LANES) {
            y[base + d] = (x[base + d] - mean) * rstd * norm[d] + norm[params.dim + d];
        }
        if lane == 0u {
            stats[row * 2u] = mean;
            stats[row * 2u + 1u] = rstd;
        }
    }
}
