"""Settings of a small model on images, as they are saved with it."""

SETTINGS = {
    "_target_": "vse_gpo.model.VSE",
    "image_encoder": {
        "_target_": "vse_gpo.encoder.Encoder",
        "backbone": {"_target_": "vse_gpo.backbones.small.small_grid", "width": 8},
        "projection": {"_target_": "vse_gpo.encoder.linear_projection", "in_features": 8, "out_features": 6},
        "pooling": {"_target_": "vse_gpo.pooling.GPO"},
    },
    "text_encoder": {
        "_target_": "vse_gpo.encoder.Encoder",
        "backbone": {"_target_": "vse_gpo.backbones.bigru.BiGRU", "vocabulary_size": 107, "width": 6, "word_width": 4},
        "projection": {"_target_": "torch.nn.Identity"},
        "pooling": {"_target_": "vse_gpo.pooling.GPO"},
    },
    "prepare_images": {"_target_": "vse_gpo.data.images.PrepareImages", "size": 32},
    "prepare_captions": {
        "_target_": "vse_gpo.data.captions.PrepareCaptions",
        "tokenizer": {"_target_": "vse_gpo.data.shapes.GrammarWords"},
    },
}
