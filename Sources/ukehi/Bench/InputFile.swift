// Keys and values from a real file, one `key<TAB>value` per line, instead of generated ones.
//
//   order-1001<TAB>{"status":"paid"}\n
//
// The first TAB ends the key; everything up to the newline is the value. A line without TAB is a key
// with an empty value. Lines are replayed in order, again from the start when they run out.

import Glibc
import UkehiBase
import UkehiNode

/// The lines of an input, in memory, with each line's key numbered.
struct InputFile: Sendable {
    /// One line.
    struct Record: Sendable {
        var key: Bytes
        var value: Bytes
        /// Equal for lines with the same key; counts up from 0 in order of first occurrence.
        var keyNumber: Int
    }

    var records: [Record]
    /// Distinct keys.
    var keyCount: Int

    /// Reads `path`, or standard input for `-`.
    init(path: String) throws(BenchFileError) {
        let file = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw .last("nothing was started: cannot read \(path)") }
        defer { if path != "-" { close(file) } }
        var contents: [UInt8] = []
        let step = 1 << 20
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: step, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            let count = read(file, buffer.baseAddress, step)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .last("nothing was started: cannot read \(path)") }
            if count == 0 { break }
            contents.append(contentsOf: buffer[..<count])
            guard contents.count <= Int(UInt32.max) / 2 else {
                throw BenchFileError(
                    "nothing was started: \(path) is over 2 GiB; give a part of it")
            }
        }
        try self.init(contents: Bytes(contents), name: path == "-" ? "standard input" : path)
    }

    /// Takes the lines apart; the records share `contents`.
    init(contents: Bytes, name: String) throws(BenchFileError) {
        records = []
        var numbers: [Bytes: Int] = [:]
        var start = 0
        var line = 1
        while start < contents.count {
            let (tab, end) = contents.withUnsafeBytes { bytes -> (Int, Int) in
                var tab = -1
                var at = start
                while at < bytes.count && bytes[at] != UInt8(ascii: "\n") {
                    if tab < 0 && bytes[at] == UInt8(ascii: "\t") { tab = at }
                    at += 1
                }
                return (tab < 0 ? at : tab, at)
            }
            let key = contents[start..<tab]
            let value = tab < end ? contents[tab + 1..<end] : Bytes()
            if !(key.isEmpty && value.isEmpty) {
                guard !key.isEmpty, key.count <= Limits.maxKeyBytes,
                    value.count <= Limits.maxValueBytes
                else {
                    throw BenchFileError(
                        "nothing was started: line \(line) of \(name) has a key of \(key.count) and "
                            + "a value of \(value.count) bytes; allowed are keys of 1 to "
                            + "\(Limits.maxKeyBytes) and values of up to \(Limits.maxValueBytes)")
                }
                let number = numbers[key] ?? numbers.count
                if number == numbers.count { numbers[key] = number }
                records.append(Record(key: key, value: value, keyNumber: number))
            }
            start = end + 1
            line += 1
        }
        keyCount = numbers.count
        guard !records.isEmpty else {
            throw BenchFileError(
                "nothing was started: \(name) holds no line; wanted is key<TAB>value")
        }
    }
}
