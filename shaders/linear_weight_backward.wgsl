// dW = dy^T x and db = the sum of dy's rows; slice s sums its run of rows: x [rows, inner], dy [rows, outer],
// dW [outer, inner].
//
// Group (o, i, s) computes rows 64 o .. + 63 and columns 64 i .. + 63 of slice s's dW from slabs of 16 rows held in
// group memory; invocation (i, j) of 8 x 8 computes rows 8 i .. + 7 and columns 8 j .. + 7 of the tile.
// Parameters: kernels::linear_weight_backward::Params.

struct Params {
    rows: u32,
    inner: u32,
    outer: u32,
    slices: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [rows, inner]
@group(0) @binding(2) var<storage, read> dy: array<f32>; // [rows, outer]
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>; // [slices, stride]: dW [outer, inner], db [outer]

const TILE = 64u;
const SLAB = 16u;

var<workgroup> left: array<vec4<f32>, 256>; // dy: [slab row, tile row / 4]
var<workgroup> right: array<vec4<f32>, 256>; // x: [slab row, tile column / 4]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let first_row = group.x * TILE; // of dW
    let first_column = group.y * TILE;
    let slice = group.z;
    let i = invocation / 8u;
    let j = invocation % 8u;
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    // Element (r, c) of the 8 x 8 outputs is sums[2 r + c / 4][c % 4].
    var sums: array<vec4<f32>, 16>;
    var bias = 0.0; // of column first_row + invocation of dy
    for (var at = slice * each; at < end; at += SLAB) {
        // Whole vectors are stored, as invocations may not share one.
        for (var part = 0u; part < 4u; part++) {
            let s = invocation / 16u + 4u * part;
            let quad = invocation % 16u;
            var a = vec4<f32>(0.0);
            var b = vec4<f32>(0.0);
            if at + s < end {
                for (var e = 0u; e < 4u; e++) {
                    let outer = first_row + 4u * quad + e;
                    let inner = first_column + 4u * quad + e;
                    if outer < params.outer {
                        a[e] = dy[(at + s) * params.outer + outer];
                    }
                    if inner < params.inner {
                        b[e] = x[(at + s) * params.inner + inner];
                    }
                }
            }
            left[s * 16u + quad] = a;
            right[s * 16u + quad] = b;
        }
        workgroupBarrier();
        for (var s = 0u; s < SLAB; s++) {
            bias += left[s * 16u + invocation / 4u][invocation % 4u];
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
    let base = slice * params.stride;
    for (var r = 0u; r < 8u; r++) {
        let row = first_row + 8u * i + r;
        for (var c = 0u; c < 8u; c++) {
            let column = first_column + 8u * j + c;
            if row < params.outer && column < params.inner {
                gradient[base + row * params.inner + column] = sums[2u * r + c / 4u][c % 4u];
            }
        }
    }
    if group.y == 0u && first_row + invocation < params.outer {
        gradient[base + params.outer * params.inner + first_row + invocation] = bias;
    }
}
