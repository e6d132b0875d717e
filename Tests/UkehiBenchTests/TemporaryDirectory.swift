import Glibc

@testable import UkehiCommand

/// A directory that is gone with its owner. Holds plain files only.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/ukehi-bench-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw BenchFileError.last("no directory") }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        for name in names { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// The files in it.
    var names: [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// A file's text.
    func text(_ name: String) throws -> String {
        guard let file = fopen("\(path)/\(name)", "r") else {
            throw BenchFileError.last("cannot read \(name)")
        }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        while true {
            let byte = fgetc(file)
            if byte == EOF { break }
            bytes.append(UInt8(truncatingIfNeeded: byte))
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
