// Directories of a benchmark: made, and removed when it has ended.

import Glibc

/// Directories of a run.
enum DirectoryTree {
    /// Makes `path` and what is missing above it.
    static func create(_ path: String) throws(BenchFileError) {
        var made = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            made += made.isEmpty || made.hasSuffix("/") ? String(part) : "/\(part)"
            if mkdir(made, 0o755) != 0 && errno != EEXIST {
                throw .last("nothing was started: cannot create \(made)")
            }
        }
    }

    /// A fresh directory in `parent`, which is made if missing.
    static func createFresh(in parent: String) throws(BenchFileError) -> String {
        try create(parent)
        var template = Array("\(parent)/run-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw .last("nothing was started: cannot create a directory in \(parent)")
        }
        return String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Removes `path` and everything in it; what cannot be removed stays.
    static func remove(_ path: String) {
        if let stream = opendir(path) {
            var names: [String] = []
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name != "." && name != ".." { names.append(name) }
            }
            closedir(stream)
            for name in names {
                let child = "\(path)/\(name)"
                // A link is removed, never followed: unlink fails on directories alone.
                if unlink(child) != 0 { remove(child) }
            }
        }
        rmdir(path)
    }
}
