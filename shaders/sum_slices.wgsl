// sum[e] = sum over slices of gradient[slice, e], in order
//
// One invocation an element. Parameters: kernels::sum_slices::Params.

struct Params {
    elements: u32,
    slices: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>; // [slices, stride]
@group(0) @binding(2) var<storage, read_write> sum: array<f32>; // [elements]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = (group.x + group.y * groups.x) * 256u + lane;
    if element >= params.elements {
        return;
    }
    var total = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        total += gradient[slice * params.stride + element];
    }
    sum[element] = total;
}
