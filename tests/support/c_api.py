"""A SavedModel asked through TensorFlow's C API alone, as a program in another language would ask it.

As a program, in a process that imports neither TensorFlow nor Keras: `python c_api.py FOLDER REQUESTS ANSWERS`. Both
files are pickled dicts: of signatures, each with `inputs` and `outputs`, the names of their tensors in the graph, and
the `values` to feed; and of signatures, each with its outputs as arrays.
"""

import ctypes
import importlib.util
import pathlib
import pickle
import sys

import numpy as np

FLOAT, INT32, STRING = 1, 3, 7
NUMPY = {FLOAT: np.float32, INT32: np.int32}
TSTRING_SIZE = 24


class Output(ctypes.Structure):
    """TF_Output: an operation of the graph and the number of its output."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def load_library():
    """The C API of the installed TensorFlow, which is found and not imported."""
    folder = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    framework = ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
    whole = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
    library = {}
    for name, result in {
        "TF_NewStatus": ctypes.c_void_p,
        "TF_GetCode": ctypes.c_int,
        "TF_Message": ctypes.c_char_p,
        "TF_NewGraph": ctypes.c_void_p,
        "TF_NewSessionOptions": ctypes.c_void_p,
        "TF_LoadSessionFromSavedModel": ctypes.c_void_p,
        "TF_GraphOperationByName": ctypes.c_void_p,
        "TF_SessionRun": None,
        "TF_AllocateTensor": ctypes.c_void_p,
        "TF_TensorData": ctypes.c_void_p,
        "TF_TensorByteSize": ctypes.c_size_t,
        "TF_TensorType": ctypes.c_int,
        "TF_NumDims": ctypes.c_int,
        "TF_Dim": ctypes.c_int64,
        "TF_StringInit": None,
        "TF_StringCopy": None,
        "TF_StringGetDataPointer": ctypes.c_void_p,
        "TF_StringGetSize": ctypes.c_size_t,
    }.items():
        function = getattr(whole, name) if hasattr(whole, name) else getattr(framework, name)
        function.restype = result
        library[name] = function
    return library


class Session:
    """A SavedModel in a session of the C API."""

    def __init__(self, folder):
        self.c = load_library()
        self.status = ctypes.c_void_p(self.c["TF_NewStatus"]())
        self.graph = ctypes.c_void_p(self.c["TF_NewGraph"]())
        options = ctypes.c_void_p(self.c["TF_NewSessionOptions"]())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = ctypes.c_void_p(
            self.c["TF_LoadSessionFromSavedModel"](
                options, None, str(folder).encode(), tags, 1, self.graph, None, self.status
            )
        )
        self.check()

    def check(self):
        if self.c["TF_GetCode"](self.status):
            raise RuntimeError(self.c["TF_Message"](self.status).decode())

    def run(self, feeds, wanted):
        """The outputs `{name: tensor name}` for inputs `{tensor name: array}`."""
        inputs, outputs = ((Output * len(names))(*map(self.output, names)) for names in (feeds, wanted.values()))
        values = (ctypes.c_void_p * len(feeds))(*map(self.tensor, feeds.values()))
        answers = (ctypes.c_void_p * len(wanted))()
        sides = (inputs, values, len(feeds), outputs, answers, len(wanted))
        self.c["TF_SessionRun"](self.session, None, *sides, None, 0, None, self.status)
        self.check()
        return {name: self.array(ctypes.c_void_p(answer)) for name, answer in zip(wanted, answers, strict=True)}

    def output(self, name):
        operation, index = name.split(":")
        return Output(self.c["TF_GraphOperationByName"](self.graph, operation.encode()), int(index))

    def tensor(self, value):
        value = np.asarray(value)
        kind = {"f": FLOAT, "i": INT32}.get(value.dtype.kind, STRING)
        size = value.size * (TSTRING_SIZE if kind == STRING else 4)
        shape = (ctypes.c_int64 * value.ndim)(*value.shape)
        found = self.c["TF_AllocateTensor"](kind, shape, value.ndim, ctypes.c_size_t(size))
        data = self.c["TF_TensorData"](ctypes.c_void_p(found))
        if kind == STRING:
            for i, text in enumerate(value.ravel()):
                place = ctypes.c_void_p(data + i * TSTRING_SIZE)
                self.c["TF_StringInit"](place)
                self.c["TF_StringCopy"](place, text, ctypes.c_size_t(len(text)))
        else:
            ctypes.memmove(data, np.ascontiguousarray(value, NUMPY[kind]).tobytes(), size)
        return found

    def array(self, tensor):
        shape = [self.c["TF_Dim"](tensor, i) for i in range(self.c["TF_NumDims"](tensor))]
        kind, data = self.c["TF_TensorType"](tensor), self.c["TF_TensorData"](tensor)
        if kind == STRING:
            places = [ctypes.c_void_p(data + i * TSTRING_SIZE) for i in range(int(np.prod(shape)))]
            texts = [
                ctypes.string_at(self.c["TF_StringGetDataPointer"](place), self.c["TF_StringGetSize"](place))
                for place in places
            ]
            return np.array(texts, object).reshape(shape)
        content = ctypes.string_at(data, self.c["TF_TensorByteSize"](tensor))
        return np.frombuffer(content, NUMPY[kind]).reshape(shape)


def main(folder, requests, answers):
    session, found = Session(folder), {}
    for signature, request in pickle.loads(pathlib.Path(requests).read_bytes()).items():
        feeds = {name: request["values"][key] for key, name in request["inputs"].items()}
        found[signature] = session.run(feeds, request["outputs"])
    known = {name.split(".")[0] for name in sys.modules}
    if known & {"tensorflow", "keras", "medkeras"}:
        raise RuntimeError("the C API must be alone")
    pathlib.Path(answers).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
