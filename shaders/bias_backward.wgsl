// Sums over slice s's run of rows, of each bias: dquery's rows, dtotal's first `inputs` rows, and dtotal's other rows.
//
// Group (b, s): the blocks b of 64 columns are those of dquery, then those of dtotal for the inputs, then for the labels;
// four invocations share a column.
// Parameters: kernels::bias_backward::Params.

struct Params {
    sequences: u32,
    inputs: u32,
    dim: u32,
    columns: u32,
    input_at: u32,
    label_at: u32,
    slices: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dquery: array<f32>; // [sequences, dim]
@group(0) @binding(2) var<storage, read> dtotal: array<f32>; // [sequences, columns]
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>; // [slices, stride]

const COLUMNS = 64u;
const LANES = 4u;

var<workgroup> partial: array<f32, 256>; // [lane, column]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let query_blocks = (params.dim + COLUMNS - 1u) / COLUMNS;
    let blocks = (params.columns + COLUMNS - 1u) / COLUMNS;
    let is_query = group.x < query_blocks;
    // Rows, columns, the block of columns, and where the bias is.
    var first = 0u;
    var rows = params.sequences;
    var width = params.dim;
    var block = group.x;
    var at = 0u;
    if !is_query {
        block = (group.x - query_blocks) % blocks;
        width = params.columns;
        if group.x - query_blocks < blocks {
            rows = params.inputs;
            at = params.input_at;
        } else {
            first = params.inputs;
            rows = params.sequences - params.inputs;
            at = params.label_at;
        }
    }
    let column = block * COLUMNS + invocation % COLUMNS;
    let lane = invocation / COLUMNS;
    let slice = group.y;
    let each = (rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, rows);
    var sum = 0.0;
    if column < width {
        for (var row = slice * each + lane; row < end; row += LANES) {
            let element = (first + row) * width + column;
            if is_query {
                sum += dquery[element];
            } else {
                sum += dtotal[element];
            }
        }
    }
    partial[invocation] = sum;
    workgroupBarrier();
    if lane == 0u && column < width {
        for (var i = invocation + COLUMNS; i < COLUMNS * LANES; i += COLUMNS) {
            sum += partial[i];
        }
        gradient[slice * params.stride + at + column] = sum;
    }
}
