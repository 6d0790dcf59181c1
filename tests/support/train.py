"""Trains a small network for some epochs over a folder of class folders, and prints losses and samples a second.

    train.py DIRECTORY COUNT EPOCHS WORKERS
"""

import json
import os
import sys
import time

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Pictures(Dataset):
    def __init__(self, root: str, count: int):
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        files = [
            (os.path.join(root, name, file), label)
            for label, name in enumerate(classes)
            for file in os.listdir(os.path.join(root, name))
        ]
        self.files = sorted(files, key=lambda item: os.path.basename(item[0]))[:count]
        self.transform = transforms.Compose([transforms.Resize(32), transforms.ToTensor()])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index: int):
        path, label = self.files[index]
        with open(path, "rb") as f, Image.open(f) as image:
            return self.transform(image.convert("RGB")), label


def main():
    root, count, epochs, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.manual_seed(7)
    torch.set_num_threads(1)
    pictures = Pictures(root, count)
    order = torch.Generator().manual_seed(11)
    loader = DataLoader(pictures, batch_size=32, shuffle=True, num_workers=workers, generator=order)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    losses, seconds = [], []
    for _ in range(epochs):
        begun, total = time.monotonic(), 0.0
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(pixels), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds.append(time.monotonic() - begun)
        losses.append(total / len(loader))
    rates = [round(len(pictures) / s, 1) for s in seconds]
    print(json.dumps({"samples": len(pictures), "losses": losses, "samples_per_second": rates}))


if __name__ == "__main__":
    main()
