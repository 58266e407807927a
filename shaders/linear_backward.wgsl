// The backward pass of y = dropout(x W^T + b): with dy' = dy through the dropout's mask,
//   dx (+)= dy' W, times gate_scale where x > 0 and 0 elsewhere if x was made by ReLU and dropout
//   dW = dy'^T x and db = the sum of the rows of dy'; slice s sums its run of rows
// x [rows, inner], dy [rows, outer], W [outer, inner], dx [rows, inner].
//
// Both are products sum over k of left[k, row] right[k, column]: of dx, k goes through outer, left is dy' and right W;
// of dW, k goes through a slice's rows, left is dy' transposed and right x.
//
// main: a group computes a tile of 64 x 64 of dW in one slice, or, in the groups after those, of dx, from slabs of 16 k
// held in group memory; invocation (i, j) of 8 x 8 computes rows 8 i .. + 7 and columns 8 j .. + 7 of the tile.
// serial: an invocation computes 8 rows and 32 columns of dx, or 8 rows and 16 columns of dW in one slice, alone; inner
// and outer are multiples of 4, stride of 64.
// Parameters: kernels::linear_backward::Params.

struct Params {
    rows: u32,
    inner: u32,
    outer: u32,
    accumulate: u32,
    gate: u32,
    gate_scale: f32,
    slices: u32,
    stride: u32,
    drop_below: u32,
    drop_scale: f32,
    drop_key: u32,
    accumulate_gradient: u32,
}

alias activation = f32; // kernels::activations makes it f16

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>; // [rows, outer]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [outer, inner]
@group(0) @binding(3) var<storage, read> x: array<activation>; // [rows, inner]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // [rows, inner]
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>; // [slices, stride]: dW [outer, inner], db [outer]
@group(0) @binding(1) var<storage, read> dy4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> x4: array<vec4<activation>>;
@group(0) @binding(4) var<storage, read_write> dx4: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> gradient4: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> dy_uniform: array<vec4<f32>, 4096>; // the first of `dy`
@group(0) @binding(7) var<uniform> weight_uniform: array<vec4<f32>, 4096>; // the first of `weight`
@group(0) @binding(8) var<uniform> x_uniform: array<vec4<f32>, 4096>; // the first of `x`

override dy_from_uniform: bool = false; // whether dy is all there
override weight_from_uniform: bool = false; // whether W is all there
override x_from_uniform: bool = false; // whether x is

const TILE = 64u;
const SLAB = 16u;

var<workgroup> left: array<vec4<f32>, 256>; // [slab k, tile row / 4]
var<workgroup> right: array<vec4<f32>, 256>; // [slab k, tile column / 4]

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
    let tile_columns = (params.inner + TILE - 1u) / TILE;
    let tile_rows = (params.outer + TILE - 1u) / TILE; // of dW
    let of_weight = params.slices * tile_rows * tile_columns;
    let number = group.x + group.y * groups.x;
    let is_weight = number < of_weight;
    var tile = number - of_weight;
    // Rows of the output; where k begins and ends; elements of dy from one row of the tile, or k, to the next.
    var rows = params.rows;
    var begin = 0u;
    var end = params.outer;
    var dy_row = params.outer;
    var dy_k = 1u;
    var base = 0u;
    if is_weight {
        tile = number % (tile_rows * tile_columns);
        let slice = number / (tile_rows * tile_columns);
        let each = (params.rows + params.slices - 1u) / params.slices;
        rows = params.outer;
        begin = slice * each;
        end = min(begin + each, params.rows);
        dy_row = 1u;
        dy_k = params.outer;
        base = slice * params.stride;
    }
    let first_row = tile / tile_columns * TILE;
    let first_column = tile % tile_columns * TILE;
    if first_row >= rows {
        return;
    }
    let i = invocation / 8u;
    let j = invocation % 8u;
    // Element (r, c) of the 8 x 8 outputs is sums[2 r + c / 4][c % 4].
    var sums: array<vec4<f32>, 16>;
    var bias = 0.0; // sum of row first_row + invocation of left
    for (var at = begin; at < end; at += SLAB) {
        // Whole vectors are stored, as invocations may not share one.
        for (var part = 0u; part < 4u; part++) {
            let s = invocation / 16u + 4u * part;
            let quad = invocation % 16u;
            var a = vec4<f32>(0.0);
            var b = vec4<f32>(0.0);
            if at + s < end {
                for (var e = 0u; e < 4u; e++) {
                    let row = first_row + 4u * quad + e;
                    let column = first_column + 4u * quad + e;
                    if row < rows {
                        let element = row * dy_row + (at + s) * dy_k;
                        var value = dy[element];
                        if params.drop_below > 0u {
                            value *= drop_factor(params.drop_below, params.drop_scale, params.drop_key, element);
                        }
                        a[e] = value;
                    }
                    if column < params.inner {
                        let element = (at + s) * params.inner + column;
                        if is_weight {
                            b[e] = f32(x[element]);
                        } else {
                            b[e] = weight[element];
                        }
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
    for (var r = 0u; r < 8u; r++) {
        let row = first_row + 8u * i + r;
        for (var c = 0u; c < 8u; c++) {
            let column = first_column + 8u * j + c;
            if row < rows && column < params.inner {
                let element = row * params.inner + column;
                var value = sums[2u * r + c / 4u][c % 4u];
                if is_weight {
                    write_gradient(base + element, value);
                } else {
                    if params.gate == 1u {
                        value = select(0.0, value * params.gate_scale, f32(x[element]) > 0.0);
                    }
                    if params.accumulate == 1u {
                        value += dx[element];
                    }
                    dx[element] = value;
                }
            }
        }
    }
    if is_weight && first_column == 0u && first_row + invocation < params.outer {
        write_gradient(base + params.outer * params.inner + first_row + invocation, bias);
    }
}

fn write_gradient(at: u32, value: f32) {
    if params.accumulate_gradient == 1u {
        gradient[at] += value;
    } else {
        gradient[at] = value;
    }
}

// Four elements of a row of dy, through the mask.
fn dy_quad(row: u32, column: u32) -> vec4<f32> {
    let element = row * params.outer + column;
    return dy_vector(element / 4u) * vec4<f32>(
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 1u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 2u),
        drop_factor(params.drop_below, params.drop_scale, params.drop_key, element + 3u),
    );
}

fn dy_vector(at: u32) -> vec4<f32> {
    if dy_from_uniform {
        return dy_uniform[at];
    }
    return dy4[at];
}

// Of four rows. Past the end it is the last row again: its sums are not kept.
fn dy_rows(row: u32, column: u32) -> mat4x4<f32> {
    let last = params.rows - 1u;
    return mat4x4<f32>(
        dy_quad(min(row, last), column),
        dy_quad(min(row + 1u, last), column),
        dy_quad(min(row + 2u, last), column),
        dy_quad(min(row + 3u, last), column),
    );
}

// Of four rows, zeros from row `end` on.
fn dy_rows_before(end: u32, row: u32, column: u32) -> mat4x4<f32> {
    let at = min(column, params.outer - 4u);
    let last = end - 1u;
    return mat4x4<f32>(
        dy_quad(row, at),
        select(vec4<f32>(0.0), dy_quad(min(row + 1u, last), at), row + 1u < end),
        select(vec4<f32>(0.0), dy_quad(min(row + 2u, last), at), row + 2u < end),
        select(vec4<f32>(0.0), dy_quad(min(row + 3u, last), at), row + 3u < end),
    );
}

// Four elements of each of four rows of x, the last one before `end` again past it.
fn x_rows_before(end: u32, row: u32, column: u32) -> mat4x4<f32> {
    let width = params.inner / 4u;
    let at = min(column, params.inner - 4u) / 4u;
    let last = end - 1u;
    return mat4x4<f32>(
        x_vector(row * width + at),
        x_vector(min(row + 1u, last) * width + at),
        x_vector(min(row + 2u, last) * width + at),
        x_vector(min(row + 3u, last) * width + at),
    );
}

fn x_vector(at: u32) -> vec4<f32> {
    if x_from_uniform {
        return x_uniform[at];
    }
    return vec4<f32>(x4[at]);
}

// Four elements of each of four rows of W.
fn weight_rows(row: u32, column: u32) -> mat4x4<f32> {
    let width = params.inner / 4u;
    let first = row * width + min(column, params.inner - 4u) / 4u;
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

fn finish_rows(row: u32, column: u32, sums: mat4x4<f32>) {
    finish(row, column, sums[0]);
    finish(row + 1u, column, sums[1]);
    finish(row + 2u, column, sums[2]);
    finish(row + 3u, column, sums[3]);
}

fn finish(row: u32, column: u32, sum: vec4<f32>) {
    if row < params.rows && column < params.inner {
        let at = (row * params.inner + column) / 4u;
        var value = sum;
        if params.gate == 1u {
            value = select(vec4<f32>(0.0), value * params.gate_scale, x_vector(at) > vec4<f32>(0.0));
        }
        if params.accumulate == 1u {
            value += dx4[at];
        }
        dx4[at] = value;
    }
}

fn finish_weights(base: u32, row: u32, column: u32, sums: mat4x4<f32>) {
    finish_weight(base, row, column, sums[0]);
    finish_weight(base, row + 1u, column, sums[1]);
    finish_weight(base, row + 2u, column, sums[2]);
    finish_weight(base, row + 3u, column, sums[3]);
}

fn finish_weight(base: u32, row: u32, column: u32, sum: vec4<f32>) {
    if row < params.outer && column < params.inner {
        write_gradient4((base + row * params.inner + column) / 4u, sum);
    }
}

fn finish_bias(base: u32, row: u32, column: u32, sum: vec4<f32>) {
    if row < params.outer && column == 0u {
        write_gradient4((base + params.outer * params.inner + row) / 4u, sum);
    }
}

fn write_gradient4(at: u32, value: vec4<f32>) {
    if params.accumulate_gradient == 1u {
        gradient4[at] += value;
    } else {
        gradient4[at] = value;
    }
}

// On a CPU an invocation is a lane, and what it loads costs far more than what it computes, least so from uniforms: so it
// makes large blocks of outputs, though none whose code takes the compiler more than a moment.
// Sums are matrices of 4 columns (of the output's rows) x 4, each a variable of its own, as arrays would have to be
// indexed in memory.
@compute @workgroup_size(8)
fn serial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let weight_columns = (params.inner + 15u) / 16u;
    let weight_rows = (params.outer + 7u) / 8u;
    let of_weight = (params.slices * weight_rows * weight_columns + 7u) / 8u;
    let input_columns = (params.inner + 31u) / 32u;
    let of_input = (params.rows + 63u) / 64u * input_columns;
    // Groups of both kinds are spread evenly, as threads take runs of groups.
    let number = group.x + group.y * groups.x;
    let before = number * of_weight / (of_weight + of_input);
    if number >= of_weight + of_input {
        return;
    }
    if before == (number + 1u) * of_weight / (of_weight + of_input) {
        input_block(number - before, input_columns, invocation);
    } else {
        weight_block(before * 8u + invocation, weight_rows, weight_columns);
    }
}

fn input_block(block: u32, block_columns: u32, invocation: u32) {
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
    for (var k = 0u; k < params.outer; k += 4u) {
        let d0 = dy_rows(row, k);
        let d1 = dy_rows(row + 4u, k);
        let w0 = weight_rows(k, column);
        s00 += w0 * d0;
        s10 += w0 * d1;
        let w1 = weight_rows(k, column + 4u);
        s01 += w1 * d0;
        s11 += w1 * d1;
        let w2 = weight_rows(k, column + 8u);
        s02 += w2 * d0;
        s12 += w2 * d1;
        let w3 = weight_rows(k, column + 12u);
        s03 += w3 * d0;
        s13 += w3 * d1;
        let w4 = weight_rows(k, column + 16u);
        s04 += w4 * d0;
        s14 += w4 * d1;
        let w5 = weight_rows(k, column + 20u);
        s05 += w5 * d0;
        s15 += w5 * d1;
        let w6 = weight_rows(k, column + 24u);
        s06 += w6 * d0;
        s16 += w6 * d1;
        let w7 = weight_rows(k, column + 28u);
        s07 += w7 * d0;
        s17 += w7 * d1;
    }
    finish_rows(row, column, s00);
    finish_rows(row + 4u, column, s10);
    finish_rows(row, column + 4u, s01);
    finish_rows(row + 4u, column + 4u, s11);
    finish_rows(row, column + 8u, s02);
    finish_rows(row + 4u, column + 8u, s12);
    finish_rows(row, column + 12u, s03);
    finish_rows(row + 4u, column + 12u, s13);
    finish_rows(row, column + 16u, s04);
    finish_rows(row + 4u, column + 16u, s14);
    finish_rows(row, column + 20u, s05);
    finish_rows(row + 4u, column + 20u, s15);
    finish_rows(row, column + 24u, s06);
    finish_rows(row + 4u, column + 24u, s16);
    finish_rows(row, column + 28u, s07);
    finish_rows(row + 4u, column + 28u, s17);
}

fn weight_block(block: u32, block_rows: u32, block_columns: u32) {
    let slice = block / (block_rows * block_columns);
    let row = block / block_columns % block_rows * 8u;
    let column = block % block_columns * 16u;
    if slice >= params.slices {
        return;
    }
    let each = (params.rows + params.slices - 1u) / params.slices;
    let end = min((slice + 1u) * each, params.rows);
    var s00 = mat4x4<f32>();
    var s01 = mat4x4<f32>();
    var s02 = mat4x4<f32>();
    var s03 = mat4x4<f32>();
    var s10 = mat4x4<f32>();
    var s11 = mat4x4<f32>();
    var s12 = mat4x4<f32>();
    var s13 = mat4x4<f32>();
    var b0 = vec4<f32>();
    var b1 = vec4<f32>();
    for (var k = slice * each; k < end; k += 4u) {
        let d0 = dy_rows_before(end, k, row);
        let d1 = dy_rows_before(end, k, row + 4u);
        b0 += d0[0] + d0[1] + d0[2] + d0[3];
        b1 += d1[0] + d1[1] + d1[2] + d1[3];
        let t0 = transpose(d0);
        let t1 = transpose(d1);
        let x0 = x_rows_before(end, k, column);
        s00 += x0 * t0;
        s10 += x0 * t1;
        let x1 = x_rows_before(end, k, column + 4u);
        s01 += x1 * t0;
        s11 += x1 * t1;
        let x2 = x_rows_before(end, k, column + 8u);
        s02 += x2 * t0;
        s12 += x2 * t1;
        let x3 = x_rows_before(end, k, column + 12u);
        s03 += x3 * t0;
        s13 += x3 * t1;
    }
    let base = slice * params.stride;
    finish_weights(base, row, column, s00);
    finish_weights(base, row, column + 4u, s01);
    finish_weights(base, row, column + 8u, s02);
    finish_weights(base, row, column + 12u, s03);
    finish_weights(base, row + 4u, column, s10);
    finish_weights(base, row + 4u, column + 4u, s11);
    finish_weights(base, row + 4u, column + 8u, s12);
    finish_weights(base, row + 4u, column + 12u, s13);
    finish_bias(base, row, column, b0);
    finish_bias(base, row + 4u, column, b1);
}
