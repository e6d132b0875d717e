// A directory on the real disk for one test.

package import UkehiEnvironment

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Made empty; ``remove()`` takes it away with everything in it.
package struct TemporaryDirectory: Sendable {
    package let path: String

    package init() throws(FileError) {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array((base + "/ukehi-test-XXXXXX").utf8CString)
        guard let made = mkdtemp(&template) else {
            throw FileError(kind: .ioFailed, operation: "mkdtemp", path: base)
        }
        path = String(cString: made)
    }

    package func remove() { TemporaryDirectory.remove(path) }

    private static func remove(_ path: String) {
        if let stream = opendir(path) {
            while let entry = readdir(stream) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                    pointer.withMemoryRebound(to: CChar.self, capacity: 256) {
                        String(cString: $0)
                    }
                }
                guard name != ".", name != ".." else { continue }
                let inner = path + "/" + name
                if unlink(inner) != 0 { remove(inner) }
            }
            closedir(stream)
        }
        rmdir(path)
    }
}
