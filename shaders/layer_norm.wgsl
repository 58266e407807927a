// y = (x - mean) / sqrt(variance + 1e-5) * weight + bias over each row of [rows, dim]; keeps mean and 1 / sqrt(...).
//
// `main`: invocations share a row, four columns each, which they keep in registers: 16 invocations up to 64 columns, 32 up
// to 128, 64 up to 256; a workgroup has 16, 8 or 4 rows. `serial`: an invocation has four rows, so that it loads weight and
// bias once for all of them. Parameters: kernels::layer_norm::Params.

struct Params {
    rows: u32,
    dim: u32,
}

alias activation = f32; // kernels::activations makes it f16, and what is stored so
fn stored(x: f32) -> activation { return x; }
fn stored4(x: vec4<f32>) -> vec4<activation> { return x; }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<activation>; // [rows, dim]
@group(0) @binding(1) var<storage, read> x4: array<vec4<activation>>;
@group(0) @binding(2) var<storage, read> norm: array<f32>; // weight, then bias: [2, dim]
@group(0) @binding(2) var<storage, read> norm4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<activation>; // [rows, dim]
@group(0) @binding(3) var<storage, read_write> y4: array<vec4<activation>>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>; // [rows, 2]
@group(0) @binding(5) var<uniform> x_uniform: array<vec4<f32>, 4096>; // the first of `x`
@group(0) @binding(6) var<uniform> norm_uniform: array<vec4<f32>, 4096>; // the first of `norm`

override x_from_uniform: bool = false; // whether x is all there
override norm_from_uniform: bool = false; // whether norm is

const EPSILON = 1e-5;

var<workgroup> partial: array<f32, 256>; // [row of the group, lane]

// Invocations that share a row: four columns each.
fn row_lanes() -> u32 {
    return select(select(64u, 32u, params.dim <= 128u), 16u, params.dim <= 64u);
}

// The sum of a row's partial sums, in order.
fn row_sum(first: u32, lanes: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < lanes; i++) {
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
    let lanes = row_lanes();
    let lane = invocation % lanes;
    let first = invocation - lane; // of this row in `partial`
    let row = (group.x + group.y * groups.x) * (256u / lanes) + invocation / lanes;
    let columns = lane + lanes * vec4<u32>(0u, 1u, 2u, 3u);
    let inside = (columns < vec4<u32>(params.dim)) & vec4<bool>(row < params.rows);
    let count = f32(params.dim);

    // Past the end, the last element is read again and counts nothing.
    let at = min(row, params.rows - 1u) * params.dim + min(columns, vec4<u32>(params.dim - 1u));
    let values = select(vec4<f32>(0.0), vec4<f32>(f32(x[at.x]), f32(x[at.y]), f32(x[at.z]), f32(x[at.w])), inside);
    partial[invocation] = dot(values, vec4<f32>(1.0));
    workgroupBarrier();
    let mean = row_sum(first, lanes) / count;
    workgroupBarrier();

    let centred = select(vec4<f32>(0.0), values - mean, inside);
    partial[invocation] = dot(centred, centred);
    workgroupBarrier();
    let rstd = 1.0 / sqrt(row_sum(first, lanes) / count + EPSILON);

    for (var e = 0u; e < 4u; e++) {
        if inside[e] {
            y[at[e]] = stored(centred[e] * rstd * norm[columns[e]] + norm[params.dim + columns[e]]);
        }
    }
    if lane == 0u && row < params.rows {
        stats[row * 2u] = mean;
        stats[row * 2u + 1u] = rstd;
    }
}

const OWN = 4u; // rows of an invocation of `serial`

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

@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = ((group.x + group.y * groups.x) * 8u + lane) * OWN;
    if first >= params.rows {
        return;
    }
    let vectors = params.dim / 4u;
    let count = f32(params.dim);
    var at: array<u32, OWN>; // of a row in `x4`
    var shift: array<f32, OWN>;
    var sums: array<vec4<f32>, OWN>;
    var squares: array<vec4<f32>, OWN>;
    for (var r = 0u; r < OWN; r++) {
        at[r] = min(first + r, params.rows - 1u) * vectors;
        shift[r] = x_vector(at[r]).x;
        sums[r] = vec4<f32>(0.0);
        squares[r] = vec4<f32>(0.0);
    }
    // Both sums in one pass, of differences to an element of the row: its square is at most dim times the variance, so
    // that the difference of the two loses no more than that in rounding.
    for (var v = 0u; v < vectors; v++) {
        for (var r = 0u; r < OWN; r++) {
            let shifted = x_vector(at[r] + v) - shift[r];
            sums[r] += shifted;
            squares[r] += shifted * shifted;
        }
    }
    var mean: array<f32, OWN>;
    var rstd: array<f32, OWN>;
    for (var r = 0u; r < OWN; r++) {
        let shifted = dot(sums[r], vec4<f32>(1.0)) / count;
        let variance = max(dot(squares[r], vec4<f32>(1.0)) / count - shifted * shifted, 0.0);
        mean[r] = shift[r] + shifted;
        rstd[r] = 1.0 / sqrt(variance + EPSILON);
        if first + r < params.rows {
            stats[(first + r) * 2u] = mean[r];
            stats[(first + r) * 2u + 1u] = rstd[r];
        }
    }
    for (var v = 0u; v < vectors; v++) {
        let weight = norm_vector(v);
        let bias = norm_vector(vectors + v);
        for (var r = 0u; r < OWN; r++) {
            if first + r < params.rows {
                y4[at[r] + v] = stored4((x_vector(at[r] + v) - mean[r]) * rstd[r] * weight + bias);
            }
        }
    }
}
