"""Caffe's messages: ``caffe.proto``, and the classes made from it."""
