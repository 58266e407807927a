// dx (+)= dy W, times gate_scale where x > 0 and 0 elsewhere if x was made by ReLU and dropout:
// dy [rows, outer], W [outer, inner], dx [rows, inner].
//
// Group (r, c) computes rows 64 r .. + 63 and columns 64 c .. + 63 of dx from slabs of 16 outer columns held in group
// memory; invocation (i, j) of 8 x 8 computes rows 8 i .. + 7 and columns 8 j .. + 7 of the tile.
// Parameters: kernels::linear_backward::Params.

struct Params {
    rows: u32,
    inner: u32,
    outer: u32,
    accumulate: u32,
    gate: u32,
    gate_scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // [rows, outer]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [outer, inner]
@group(0) @binding(3) var<storage, read> x: array<f32>; // [rows, inner]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // [rows, inner]

const TILE = 64u;
const SLAB = 16u;

var<workgroup> left: array<vec4<f32>, 256>; // [slab column, tile row / 4]
var<workgroup> right: array<vec4<f32>, 256>; // [slab column, tile column / 4]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let first_row = group.x * TILE;
    let first_column = group.y * TILE;
    let i = invocation / 8u;
    let j = invocation % 8u;
    // Element (r, c) of the 8 x 8 outputs is sums[2 r + c / 4][c % 4].
    var sums: array<vec4<f32>, 16>;
    for (var at = 0u; at < params.outer; at += SLAB) {
        // Whole vectors are stored, as invocations may not share one.
        for (var part = 0u; part < 4u; part++) {
            let s = invocation / 16u + 4u * part;
            let quad = invocation % 16u;
            var a = vec4<f32>(0.0);
            var b = vec4<f32>(0.0);
            if at + s < params.outer {
                for (var e = 0u; e < 4u; e++) {
                    let row = first_row + 4u * quad + e;
                    let column = first_column + 4u * quad + e;
                    if row < params.rows {
                        a[e] = dy[row * params.outer + at + s];
                    }
                    if column < params.inner {
                        b[e] = weight[(at + s) * params.inner + column];
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
            if row < params.rows && column < params.inner {
                let element = row * params.inner + column;
                var value = sums[2u * r + c / 4u][c % 4u];
                if params.gate == 1u {
                    value = select(0.0, value * params.gate_scale, x[element] > 0.0);
                }
                if params.accumulate == 1u {
                    value += dx[element];
                }
                dx[element] = value;
            }
        }
    }
}
