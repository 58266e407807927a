// y = residual + dropout(relu(x W^T + b)): x [rows, inner], W [outer, inner], y [rows, outer]; each end where asked for.
//
// Group (r, c) computes rows 64 r .. + 63 and columns 64 c .. + 63 of y from slabs of 16 inner columns held in group
// memory; invocation (i, j) of 8 x 8 computes rows 8 i .. + 7 and columns 8 j .. + 7 of the tile.
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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, inner]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [outer, inner], then the bias [outer]
@group(0) @binding(3) var<storage, read> residual: array<f32>; // [rows, outer]
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [rows, outer]

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
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let first_row = group.x * TILE;
    let first_column = group.y * TILE;
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
                        a[e] = x[row * params.inner + at + s];
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
                    value += residual[element];
                }
                y[element] = value;
            }
        }
    }
}
