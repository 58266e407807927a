// loss[r] = m_r + l_r - scale * phi_r . label_r (eq. 3)
//
// One invocation a row (example, intention). Parameters: kernels::seq2seq_loss::Params.

struct Params {
    rows: u32,
    first_label: u32,
    dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> phi: array<f32>; // [rows, dim]
@group(0) @binding(2) var<storage, read> label: array<f32>; // row first_label + r belongs to r: [.., dim]
@group(0) @binding(3) var<storage, read> normaliser: array<f32>; // m and l of each row, [rows, 2]
@group(0) @binding(4) var<storage, read_write> loss: array<f32>; // [rows]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.x + group.y * groups.x) * 64u + lane;
    if row >= params.rows {
        return;
    }
    var product = 0.0;
    for (var d = 0u; d < params.dim; d++) {
        product += phi[row * params.dim + d] * label[(params.first_label + row) * params.dim + d];
    }
    loss[row] = normaliser[2u * row + 1u] + (normaliser[2u * row] - params.scale * product);
}
