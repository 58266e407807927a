// gradient[s, c] = sum over slice s's run of rows of x[first + row, c]
//
// Group (c, s) sums columns 64 c .. 64 c + 63 of slice s; four invocations share a column.
// Parameters: kernels::column_sum::Params.

struct Params {
    first: u32,
    rows: u32,
    columns: u32,
    slices: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [first + rows, columns]
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>; // [slices, stride], of which [columns]

const COLUMNS = 64u;
const LANES = 4u;

var<workgroup> partial: array<f32, 256>; // [lane, column]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let column = group.x * COLUMNS + invocation % COLUMNS;
    let lane = invocation / COLUMNS;
    let slice = group.y;
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    var sum = 0.0;
    if column < params.columns {
        for (var row = slice * each + lane; row < end; row += LANES) {
            sum += x[(params.first + row) * params.columns + column];
        }
    }
    partial[invocation] = sum;
    workgroupBarrier();
    if lane == 0u && column < params.columns {
        for (var i = invocation + COLUMNS; i < COLUMNS * LANES; i += COLUMNS) {
            sum += partial[i];
        }
        gradient[slice * params.stride + column] = sum;
    }
}
