// y = residual + dropout(relu(x W^T + b)): x [rows, inner], W [outer, inner], y [rows, outer]; each end where asked for.
//
// main: group (r, c) computes rows 64 r .. + 63 and columns 64 c .. + 63 of y from slabs of 16 inner columns held in group
// memory; invocation (i, j) of 8 x 8 computes rows 8 i .. + 7 and columns 8 j .. + 7 of the tile.
// serial: an invocation computes 8 rows and 32 columns of y alone; inner and outer are multiples of 4.
// Parameters: kernels::linear::Params.

struct Params {
    rows: u32,
    inner: u32,
    outer: u32,
    relu: u32,
    residual: u32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
}

alias activation = f32; // kernels::activations makes it f16, and what is stored so
fn stored(x: f32) -> activation { return x; }
fn stored4(x: vec4<f32>) -> vec4<activation> { return x; }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<activation>; // [rows, inner]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [outer, inner], then the bias [outer]
@group(0) @binding(3) var<storage, read> residual: array<activation>; // [rows, outer]
@group(0) @binding(4) var<storage, read_write> y: array<activation>; // [rows, outer]
@group(0) @binding(1) var<storage, read> x4: array<vec4<activation>>;
@group(0) @binding(2) var<storage, read> weight4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual4: array<vec4<activation>>;
@group(0) @binding(4) var<storage, read_write> y4: array<vec4<activation>>;
@group(0) @binding(5) var<uniform> weight_uniform: array<vec4<f32>, 4096>; // the first of `weight`
@group(0) @binding(6) var<uniform> x_uniform: array<vec4<f32>, 4096>; // the first of `x`

override weight_from_uniform: bool = false; // whether W is all there
override x_from_uniform: bool = false; // whether x is

const TILE = 64u;
const SLAB = 16u;

var<workgroup> left: array<vec4<f32>, 256>; // [slab column, tile row / 4]
var<workgroup> right: array<vec4<f32>, 256>; // [slab column, tile column / 4]

// The same in every shader that drops out; src/kernels/dropout.rs says what it is.
fn drop_factor(below: u32, scale: f32, key: u32, element: u32) -> f32 {
    var x = element * 0x9e3779b1u + key;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    x = x ^ (x >> 16u);
    return select(scale, 0.0, x < below);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let tile = group.x + group.y * groups.x;
    let tile_columns = (params.outer + TILE - 1u) / TILE;
    let first_row = tile / tile_columns * TILE;
    let first_column = tile % tile_columns * TILE;
    if first_row >= params.rows {
        return;
    }
    let i = invocation / 8u;
    let j = invocation % 8u;
    // Element (r, c) of the 8 x 8 outputs is sums[2 r + c / 4][c % 4].
    var sums: array<vec4<f32>, 16>;
    for (var at = 0u; at < params.inner; at += SLAB) {
        // Whole vectors are stored, as invocations may not share one.
        for (var part = 0u; part < 4u; part++) {
            let s = invocation / 16u + 4u * part;
            let quad = invocation % 16u;
            var a = vec4<f32>(0.0);
            var b = vec4<f32>(0.0);
            if at + s < params.inner {
                for (var e = 0u; e < 4u; e++) {
                    let row = first_row + 4u * quad + e;
                    let column = first_column + 4u * quad + e;
                    if row < params.rows {
                        a[e] = f32(x[row * params.inner + at + s]);
                    }
                    if column < params.outer {
                        b[e] = weight[column * params.inner + at + s];
                    }
                }
            }
            left[s * 16u + quad] = a;
            right[s * 16u + quad] = b;
        }
        workgroupBarrier();
        for (var s = 0u; s < SLAB; s++) {
            let a0 = left[s * 16u + 2u * i];
            let a1 = left[s * 16u + 2u * i + 1u];
            let b0 = right[s * 16u + 2u * j];
            let b1 = right[s * 16u + 2u * j + 1u];
            for (var r = 0u; r < 4u; r++) {
                sums[2u * r] += a0[r] * b0;
                sums[2u * r + 1u] += a0[r] * b1;
                sums[2u * r + 8u] += a1[r] * b0;
                sums[2u * r + 9u] += a1[r] * b1;
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 8u; r++) {
        let row = first_row + 8u * i + r;
        for (var c = 0u; c < 8u; c++) {
            let column = first_column + 8u * j + c;
            if row < params.rows && column < params.outer {
                let element = row * params.outer + column;
                var value = sums[2u * r + c / 4u][c % 4u] + weight[params.outer * params.inner + column];
                if params.relu == 1u {
                    value = select(value, 0.0, value < 0.0); // not max(), which may turn NaN into 0
                }
                value *= drop_factor(params.drop_below, params.drop_scale, params.drop_key, element);
                if params.residual == 1u {
                    value += f32(residual[element]);
                }
                y[element] = stored(value);
            }
        }
    }
}

// Of four elements from `element` on.
fn drop_factors(element: u32) -> vec4<f32> {
    return vec4<f32>(
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 1u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 2u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 3u),
    );
}

// A vector of each of four rows of x. Past the end it is the last row again: its sums are not kept.
fn x_rows(row: u32, quad: u32) -> mat4x4<f32> {
    let last = params.rows - 1u;
    let width = params.inner / 4u;
    return mat4x4<f32>(
        x_vector(min(row, last) * width + quad),
        x_vector(min(row + 1u, last) * width + quad),
        x_vector(min(row + 2u, last) * width + quad),
        x_vector(min(row + 3u, last) * width + quad),
    );
}

fn x_vector(at: u32) -> vec4<f32> {
    if x_from_uniform {
        return x_uniform[at];
    }
    return vec4<f32>(x4[at]);
}

// A vector of each of four rows of W, which are columns of y.
fn weight_rows(column: u32, quad: u32) -> mat4x4<f32> {
    let width = params.inner / 4u;
    let first = min(column, params.outer - 4u) * width + quad;
    return mat4x4<f32>(
        weight_vector(first), weight_vector(first + width), weight_vector(first + 2u * width), weight_vector(first + 3u * width)
    );
}

fn weight_vector(at: u32) -> vec4<f32> {
    if weight_from_uniform {
        return weight_uniform[at];
    }
    return weight4[at];
}

fn bias(column: u32) -> vec4<f32> {
    return weight4[(params.outer * params.inner + min(column, params.outer - 4u)) / 4u];
}

fn finish_rows(row: u32, column: u32, sums: mat4x4<f32>, bias: vec4<f32>) {
    finish(row, column, sums[0] + bias);
    finish(row + 1u, column, sums[1] + bias);
    finish(row + 2u, column, sums[2] + bias);
    finish(row + 3u, column, sums[3] + bias);
}

fn finish(row: u32, column: u32, sum: vec4<f32>) {
    if row < params.rows && column < params.outer {
        let element = row * params.outer + column;
        var value = sum;
        if params.relu == 1u {
            value = select(value, vec4<f32>(0.0), value < vec4<f32>(0.0));
        }
        value *= drop_factors(element);
        if params.residual == 1u {
            value += vec4<f32>(residual4[element / 4u]);
        }
        y4[element / 4u] = stored4(value);
    }
}

// On a CPU an invocation is a lane, and what it loads costs far more than what it computes, but for uniforms: so it loads
// few rows of x and many of W, as many as still compile in a moment. Sums are matrices of 4 columns (of y's rows) x 4, each
// a variable of its own, as arrays would have to be indexed in memory.
@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let block_columns = (params.outer + 31u) / 32u;
    let block = group.x + group.y * groups.x;
    let row = (block / block_columns * 8u + invocation) * 8u;
    let column = block % block_columns * 32u;
    if row >= params.rows {
        return;
    }
    var s00 = mat4x4<f32>();
    var s01 = mat4x4<f32>();
    var s02 = mat4x4<f32>();
    var s03 = mat4x4<f32>();
    var s04 = mat4x4<f32>();
    var s05 = mat4x4<f32>();
    var s06 = mat4x4<f32>();
    var s07 = mat4x4<f32>();
    var s10 = mat4x4<f32>();
    var s11 = mat4x4<f32>();
    var s12 = mat4x4<f32>();
    var s13 = mat4x4<f32>();
    var s14 = mat4x4<f32>();
    var s15 = mat4x4<f32>();
    var s16 = mat4x4<f32>();
    var s17 = mat4x4<f32>();
    for (var quad = 0u; quad < params.inner / 4u; quad++) {
        let x0 = x_rows(row, quad);
        let x1 = x_rows(row + 4u, quad);
        let w0 = transpose(weight_rows(column, quad));
        s00 += w0 * x0;
        s10 += w0 * x1;
        let w1 = transpose(weight_rows(column + 4u, quad));
        s01 += w1 * x0;
        s11 += w1 * x1;
        let w2 = transpose(weight_rows(column + 8u, quad));
        s02 += w2 * x0;
        s12 += w2 * x1;
        let w3 = transpose(weight_rows(column + 12u, quad));
        s03 += w3 * x0;
        s13 += w3 * x1;
        let w4 = transpose(weight_rows(column + 16u, quad));
        s04 += w4 * x0;
        s14 += w4 * x1;
        let w5 = transpose(weight_rows(column + 20u, quad));
        s05 += w5 * x0;
        s15 += w5 * x1;
        let w6 = transpose(weight_rows(column + 24u, quad));
        s06 += w6 * x0;
        s16 += w6 * x1;
        let w7 = transpose(weight_rows(column + 28u, quad));
        s07 += w7 * x0;
        s17 += w7 * x1;
    }
    let b0 = bias(column);
    finish_rows(row, column, s00, b0);
    finish_rows(row + 4u, column, s10, b0);
    let b1 = bias(column + 4u);
    finish_rows(row, column + 4u, s01, b1);
    finish_rows(row + 4u, column + 4u, s11, b1);
    let b2 = bias(column + 8u);
    finish_rows(row, column + 8u, s02, b2);
    finish_rows(row + 4u, column + 8u, s12, b2);
    let b3 = bias(column + 12u);
    finish_rows(row, column + 12u, s03, b3);
    finish_rows(row + 4u, column + 12u, s13, b3);
    let b4 = bias(column + 16u);
    finish_rows(row, column + 16u, s04, b4);
    finish_rows(row + 4u, column + 16u, s14, b4);
    let b5 = bias(column + 20u);
    finish_rows(row, column + 20u, s05, b5);
    finish_rows(row + 4u, column + 20u, s15, b5);
    let b6 = bias(column + 24u);
    finish_rows(row, column + 24u, s06, b6);
    finish_rows(row + 4u, column + 24u, s16, b6);
    let b7 = bias(column + 28u);
    finish_rows(row, column + 28u, s07, b7);
    finish_rows(row + 4u, column + 28u, s17, b7);
}
