// The package's own text, as the house rules read it.

import Foundation

/// One text file of the package.
struct SourceFile: Sendable, CustomStringConvertible {
    /// From the package's root, as `Sources/UkehiBase/Bytes.swift`.
    var path: String
    var lines: [String]
    var description: String { path }

    /// The file's name.
    var name: String { path.split(separator: "/").last.map(String.init) ?? path }
    /// Everything, as read.
    var text: String { lines.joined(separator: "\n") }
}

/// The package on disk.
enum SourceTree {
    /// The package's root, found from this file's own place in it.
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The files below `folder` whose names end in one of `endings`, by path.
    static func files(in folder: String, endings: [String]) throws -> [SourceFile] {
        let base = root.appending(path: folder)
        guard let walker = FileManager.default.enumerator(atPath: base.path) else { return [] }
        var files: [SourceFile] = []
        for case let relative as String in walker {
            guard endings.contains(where: relative.hasSuffix) else { continue }
            files.append(try file(folder.isEmpty ? relative : "\(folder)/\(relative)"))
        }
        return files.sorted { $0.path < $1.path }
    }

    /// One file by its path.
    static func file(_ path: String) throws -> SourceFile {
        let text = try String(contentsOf: root.appending(path: path), encoding: .utf8)
        return SourceFile(path: path, lines: text.components(separatedBy: "\n"))
    }

    /// Every Swift file of the package.
    static func swiftFiles() throws -> [SourceFile] {
        try files(in: "Sources", endings: [".swift"]) + files(in: "Tests", endings: [".swift"])
            + [file("Package.swift")]
    }

    /// Every document a person reads.
    static func documents() throws -> [SourceFile] {
        try [file("README.md")] + files(in: "docs", endings: [".md"])
            + files(in: "Sources", endings: [".md"])
    }

    /// The folders directly below `Sources`.
    static func modules() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: root.appending(path: "Sources").path)
            .filter { !$0.hasPrefix(".") }.sorted()
    }
}
