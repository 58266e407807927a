// dx (+)= rstd * (g - mean(g) - x^ * mean(g * x^)), where g = dy * weight and x^ = (x - mean) * rstd
//
// Sixteen invocations share a row, a workgroup has sixteen rows. Parameters: kernels::layer_norm_backward::Params.

struct Params {
    rows: u32,
    dim: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, dim]
@group(0) @binding(2) var<storage, read> norm: array<f32>; // weight, then bias: [2, dim]
@group(0) @binding(3) var<storage, read> stats: array<f32>; // mean, rstd: [rows, 2]
@group(0) @binding(4) var<storage, read> dy: array<f32>; // [rows, dim]
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // [rows, dim]

const LANES = 16u;

var<workgroup> partial_one: array<f32, 256>; // of g, [row of the group, lane]
var<workgroup> partial_x: array<f32, 256>; // of g * x^

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let row = (group.x + group.y * groups.x) * 16u + invocation / LANES;
    let lane = invocation % LANES;
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
        for (var d = lane; d < params.dim; d += LANES) {
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
    for (var i = first; i < first + LANES; i++) {
        one += partial_one[i];
        along += partial_x[i];
    }
    one /= f32(params.dim);
    along /= f32(params.dim);
    for (var d = lane; d < params.dim; d += LANES) {
        let centred = (x[base + d] - mean) * rstd;
        let value = rstd * (dy[base + d] * norm[d] - one - centred * along);
        if params.accumulate == 1u {
            dx[base + d] += value;
        } else {
            dx[base + d] = value;
        }
    }
}
