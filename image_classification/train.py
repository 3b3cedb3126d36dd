"""Train the network that reads the digits, and write it to model.tflite. To serve your own network, edit this file.

A small Keras CNN learns MNIST and the drawings of mnist_training/, distorted anew in every epoch.
"""

import argparse
import keras
import tensorflow as tf
from export import export
from keras import layers
from mnist_training import LABELS, SIZE, UNKNOWN, Pictures, calibrate, load, report
from mnist_training.augment import distorted

BATCH = 128
FILE = "model.tflite"


def build() -> keras.Model:
    """Return the untrained network: (n, 28, 28, 1) float32, 0..1, to (n, 11) probabilities."""
    image = x = keras.Input((SIZE, SIZE, 1))
    stages = [(16, 1), (32, 2), (64, 1), (96, 2), (96, 1), (128, 2), (128, 1)]  # filters, stride
    for filters, stride in stages:
        x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.Dropout(0.4)(layers.Flatten()(x))
    logits = layers.Dense(len(LABELS), name="logits")(x)
    return keras.Model(image, layers.Softmax()(logits))


def fit(model: keras.Model, pictures: Pictures, epochs: int) -> None:
    """Train with AdamW on a cosine schedule, and keep the averaged weights.

    The last third of the epochs distorts less, so that training ends on digits as most people write
    them: this makes fewer errors on those, and no more on the others.
    """
    data = tf.data.Dataset.from_tensor_slices((pictures.images, tf.one_hot(pictures.labels, len(LABELS))))
    data = data.shuffle(len(pictures.images)).batch(BATCH)
    steps = epochs * len(data)
    warm = steps // 20
    cosine = keras.optimizers.schedules.CosineDecay
    rate = cosine(1e-4, steps - warm, alpha=1e-3, warmup_target=2e-3, warmup_steps=warm)
    average = max(0.0, 1 - 20 / steps)  # over the last twentieth of the training
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.1, use_ema=True, ema_momentum=average)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.05)
    # Without XLA: its convolutions take longer on a CPU.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    model.fit(distorted(data, 1.0, 1.0), epochs=epochs - epochs // 3)
    model.fit(distorted(data, 0.6, 0.4), epochs=epochs, initial_epoch=epochs - epochs // 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", metavar="FILE.npz", help="MNIST (Keras would download it)")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N images only, 20 or more")
    args = parser.parse_args()
    if args.epochs < 1 or (args.limit is not None and args.limit < 20):
        parser.error("--epochs takes 1 or more, and --limit 20 or more.")
    keras.utils.set_random_seed(1)
    print("Drawing pictures, and preparing all as the service would …")
    training, held_out, held_out_without, test = load(args.data, args.limit)
    model = build()
    model.summary()
    fit(model, training, args.epochs)
    print(f"temperature={calibrate(model, held_out + held_out_without):.2f}")
    title = "Handwritten digits"
    export(model, LABELS, FILE, title=title, unknown=UNKNOWN, range="0..1", preprocess="digit", quantize=True)

    report("Held-out digits", FILE, held_out)
    report("Held-out pictures without a digit", FILE, held_out_without)
    read = report("Test", FILE, test)
    print("Test images by label (row) and answer (column):")
    print(tf.math.confusion_matrix(test.labels, read).numpy())


if __name__ == "__main__":
    main()
