// What RocksDB's errors mean. Its C interface hands them over as text alone; the beginnings
// compared here are those its status class writes (`Status::ToString`), in one place.

import CRocksDB
package import UkehiState

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension StateError {
    /// Takes over RocksDB's message and frees it; `effect` says what was not done.
    init(rocksDB message: UnsafeMutablePointer<CChar>, effect: String) {
        let text = String(cString: message)
        rocksdb_free(message)
        self.init(rocksDB: text, effect: effect)
    }

    package init(rocksDB text: String, effect: String) {
        func says(_ words: String) -> Bool { text.contains(words) }
        let code: Code
        let advice: String
        if text.hasPrefix("Result incomplete: Write stall") {
            code = .stalled
            advice = "It is asked again."
        } else if text.hasPrefix("Result incomplete"), !says("No space left on device") {
            code = .wouldBlock
            advice = "It is asked again."
        } else if says("No space left on device") || says("Disk quota exceeded") {
            code = .diskFull
            advice = "Free space on the volume of the data directory, then restart the node."
        } else if text.hasPrefix("Corruption") {
            code = .corrupted
            advice =
                "The disk or memory of this node is damaged; its regions are to be rebuilt "
                + "from their other replicas."
        } else if says("While lock file") || says("lock hold by") {
            code = .locked
            advice = "Another process uses this data directory; stop it first."
        } else {
            code = .ioFailed
            advice = "Look at the disk of the data directory, then restart the node."
        }
        // Corruption messages can quote keys: what follows their kind is left out.
        let cause = code == .corrupted ? "RocksDB reports corruption" : "RocksDB says: \(text)"
        self.init(code, "\(effect) \(cause). \(advice)")
    }
}

/// Runs a call that may leave a message, and throws it.
func checked<R>(
    _ effect: @autoclosure () -> String,
    _ call: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> R
) throws(StateError) -> R {
    var message: UnsafeMutablePointer<CChar>?
    let result = call(&message)
    if let message { throw StateError(rocksDB: message, effect: effect()) }
    return result
}
