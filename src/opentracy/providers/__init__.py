"""Every provider: one registry row each, one file per wire dialect. Pure: values in, values out."""
