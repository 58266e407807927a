// g = sum over slices of gradient; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
// parameter -= rate * m / (sqrt(v) * correction + epsilon)
//
// `main`: one invocation an element. `serial`: one invocation a vector of four. Parameters: kernels::adam::Params.

struct Params {
    elements: u32,
    slices: u32,
    stride: u32,
    rate: f32,
    correction: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>; // [slices, stride]
@group(0) @binding(1) var<storage, read> gradient4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> parameter: array<f32>; // [elements]
@group(0) @binding(2) var<storage, read_write> parameter4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> first_moment: array<f32>; // [elements]
@group(0) @binding(3) var<storage, read_write> first_moment4: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> second_moment: array<f32>; // [elements]
@group(0) @binding(4) var<storage, read_write> second_moment4: array<vec4<f32>>;

// Adam's constants and update, the same in all its kernels.
const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let e = (group.x + group.y * groups.x) * 256u + lane;
    if e >= params.elements {
        return;
    }
    var g = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        g += gradient[slice * params.stride + e];
    }
    let m = BETA1 * first_moment[e] + (1.0 - BETA1) * g;
    let v = BETA2 * second_moment[e] + (1.0 - BETA2) * g * g;
    first_moment[e] = m;
    second_moment[e] = v;
    parameter[e] -= params.rate * m / (sqrt(v) * params.correction + EPSILON);
}

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let e = (group.x + group.y * groups.x) * 8u + lane;
    if e >= params.elements / 4u {
        return;
    }
    var g = vec4<f32>(0.0);
    for (var slice = 0u; slice < params.slices; slice++) {
        g += gradient4[slice * params.stride / 4u + e];
    }
    let m = BETA1 * first_moment4[e] + (1.0 - BETA1) * g;
    let v = BETA2 * second_moment4[e] + (1.0 - BETA2) * g * g;
    first_moment4[e] = m;
    second_moment4[e] = v;
    parameter4[e] -= params.rate * m / (sqrt(v) * params.correction + EPSILON);
}
