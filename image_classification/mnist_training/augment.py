"""Distort prepared digits as other hands, pens and cameras would: each picture of a batch differently."""

import math
import tensorflow as tf

SIZE = 28  # pixels


def distorted(data: tf.data.Dataset, warped: float, restroked: float) -> tf.data.Dataset:
    """Return batches (images, labels) with their images distorted anew each time; 0 (not at all) to 1."""
    return data.map(lambda x, y: (restroke(warp(x, warped), restroked), y)).prefetch(4)


def warp(images: tf.Tensor, strength: float) -> tf.Tensor:
    """Rotate, shear, scale, shift and elastically distort a batch, each image differently.

    (n, 28, 28, 1) float32 to the same; `strength` 0 (not at all) to 1. The elastic distortion,
    a smooth random field of displacements, is Simard, Steinkraus and Platt's (ICDAR 2003). One
    bilinear lookup does all of it, since every further one would blur the strokes.
    """
    n = tf.shape(images)[0]
    angle, shear, scale_y, scale_x = tf.unstack(tf.random.uniform((4, n), -1.0, 1.0))
    cos, sin = tf.cos(angle * math.radians(15)), tf.sin(angle * math.radians(15))
    shear, scale_y, scale_x = shear * 0.2, tf.exp(scale_y * 0.15), tf.exp(scale_x * 0.15)
    row_y = tf.stack([cos * scale_y, sin * scale_y], 1)
    row_x = tf.stack([(shear * cos - sin) * scale_x, (shear * sin + cos) * scale_x], 1)
    centred = tf.range(SIZE, dtype=tf.float32) - (SIZE - 1) / 2
    grid = tf.stack(tf.meshgrid(centred, centred, indexing="ij"), -1)
    at = tf.einsum("nij,hwj->nhwi", tf.stack([row_y, row_x], 1), grid)
    at += tf.random.uniform((n, 1, 1, 2), -1.5, 1.5)
    field = tf.image.resize(tf.random.normal((n, 6, 6, 2)), (SIZE, SIZE), "bicubic")
    at += field * tf.random.uniform((n, 1, 1, 1))
    at = grid + strength * (at - grid)

    wide = SIZE + 2  # a dark frame of one pixel stands for everything outside
    at = tf.clip_by_value(at + wide / 2 - 0.5, 0.0, wide - 1.001)
    corner = tf.cast(at, tf.int32)
    weight_y, weight_x = tf.unstack(at - tf.floor(at), axis=-1)
    index = corner[..., 0] * wide + corner[..., 1] + tf.range(n)[:, None, None] * wide**2
    pixels = tf.reshape(tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]]), [-1])
    top = tf.gather(pixels, index) * (1 - weight_x) + tf.gather(pixels, index + 1) * weight_x
    index += wide
    bottom = tf.gather(pixels, index) * (1 - weight_x) + tf.gather(pixels, index + 1) * weight_x
    return (top * (1 - weight_y) + bottom * weight_y)[..., None]


def restroke(images: tf.Tensor, strength: float) -> tf.Tensor:
    """Make some of the strokes thicker, thinner, blurred, jagged, paler or noisy, as pens and
    cameras do. (n, 28, 28, 1) float32, 0..1, to the same; `strength` is the share touched."""
    n = tf.shape(images)[0]

    def between(low: float, high: float) -> tf.Tensor:
        return tf.random.uniform((n, 1, 1, 1), low, high)

    def some(share: float, changed: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.where(between(0, 1) < share, changed, x)

    x = images
    dilated = tf.nn.max_pool2d(x, 3, 1, "SAME")
    eroded = -tf.nn.max_pool2d(-x, 2, 1, "SAME")
    x = some(0.25, x + between(0, 0.8) * (dilated - x), x)
    x = some(0.2, x + between(0, 0.8) * (eroded - x), x)
    x /= tf.maximum(tf.reduce_max(x, (1, 2, 3), keepdims=True), 0.2)
    binomial = tf.constant([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[..., None, None] / 16
    x = some(0.15, tf.nn.conv2d(x, binomial, 1, "SAME"), x)
    x = some(0.2, tf.clip_by_value((x - between(0.3, 0.6)) * between(2, 6) + 0.5, 0.0, 1.0), x)
    x = some(0.3, tf.maximum(x, 1e-6) ** tf.exp(between(-0.6, 0.6)), x)
    x = some(0.2, x * between(0.6, 1), x)
    x = some(0.15, x + tf.random.normal(tf.shape(x)) * between(0, 0.1), x)
    return some(strength, tf.clip_by_value(x, 0.0, 1.0), images)
